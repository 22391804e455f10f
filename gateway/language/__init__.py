"""The rule language: YAML packs in, an immutable `Policy` out. No I/O beyond reading the files it is given."""
