"""Labelled traffic at any scale, by seed: who would send what, when, and under which account.

`table` reads the scenarios, prompts and clients from YAML; `drawing` is the source of chance; `people` are accounts, networks
and payment instruments of a scenario, `world` those of all; `flow` and `probes` make exchanges, a slice of time after the
other, as `rhythm` spreads them; `texts`, `bodies` and `captures` write them as requests; `looks` asks the real providers
what such requests show, and `columns` makes compact records of it; `traffic` merges all.
"""
