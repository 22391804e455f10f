"""The judgements on a policy that loads, by what they look at. `gateway.language.lint` gathers them."""
