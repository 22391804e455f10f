"""What the commands share: arguments, settings, and how a command fails."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import click

from gateway.config import Config, default_config, load_config
from gateway.errors import ConfigError, PolicyError
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.replay.driver import DRY_RUN_KEY

PATHS = click.Path(path_type=Path)
CONFIG = click.option("--config", type=PATHS, help="A gateway.yaml whose geo, identity and reseller sections are used.")


def configured(file: Path | None) -> tuple[Registry, Config]:
    """The signals and settings of a gateway.yaml, or the defaults with the key that makes dry runs repeatable."""
    settings = load_config(file) if file is not None else default_config(DRY_RUN_KEY)
    return load_registry(settings.settings), settings


def apart(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Packs and gateway.yaml files apart, by what stands in them."""
    packs: list[Path] = []
    configs: list[Path] = []
    for path in paths:
        is_config = path.is_file() and re.search(r"^upstreams:", path.read_text(errors="replace"), re.MULTILINE)
        (configs if is_config else packs).append(path)
    return packs, configs


def fail(error: object, code: int) -> NoReturn:
    click.echo(f"sluice: {error}" if not isinstance(error, (PolicyError, ConfigError)) else str(error), err=True)
    sys.exit(code)
