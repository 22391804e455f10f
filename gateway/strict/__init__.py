"""Strict reading of YAML: trees in which every value knows its place, and the shapes they must have."""
