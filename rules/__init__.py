"""Bundled packs, their tests and their data (installed as `gateway.rules`). Data only: no code lives here."""
