"""What is wrong with the geo files that a gateway.yaml names (old, odd, mute), as `sluice check` and `sluice serve` tell it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from gateway.config import Config
from gateway.errors import Place
from gateway.language.findings import Finding, Severity
from gateway.language.sarif import Looked

NAME: Final = "geo-file"
LOOKED: Final = {
    NAME: Looked("A geo database or list of networks that is too old to speak, or tells nothing.", Severity.WARNING)
}


def geo_findings(config: Config, now: int) -> list[Finding]:
    """The findings about the files of the section `geo`, each at its key. now: µs since 1970.

    Raises ConfigError for a file that cannot be read.
    """
    geo = config.settings.get("geo", {})
    if not geo:
        return []
    files: Any = import_module("gateway.plugins.geo_files")  # plugins are reached by name only
    places = config.settings.get("places", {})
    return [
        Finding(places.get(f"geo.{key}", Place(config.source)), f"geo.{key}: {message}", mend, NAME, Severity.WARNING)
        for key, message, mend in files.unfit(geo, now)
    ]
