"""Bundled plugins: signals and protocols, through the same door as third parties (installed as `gateway.plugins`)."""
