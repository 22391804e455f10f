"""What the commands share: arguments, settings, and how a command fails."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import click

from gateway.audit.sealing import Opener
from gateway.config import Config, default_config, load_config
from gateway.errors import LoadError, Place, PolicyError, Problem, RecordError
from gateway.language.compile import pack_files, unread
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.replay.driver import DRY_RUN_KEY
from gateway.replay.foreign.fields import DEFAULTS, Fields, read_fields
from gateway.report.labels import HARVEST as MEANS_HARVEST
from gateway.strict.document import MAX_BYTES, seen
from gateway.values import parse_duration

_CONFIG = re.compile(rb"^upstreams:", re.MULTILINE)
_DIRECTORY = re.compile(rb"^accounts:", re.MULTILINE)
PATHS = click.Path(path_type=Path)
CONFIG = click.option("--config", type=PATHS, help="A gateway.yaml whose geo, identity and reseller sections are used.")

LABELS = click.option(
    "--labels", type=PATHS, help="A CSV, JSON lines or YAML file: account or org to label, before the records' own labels."
)
HARVEST = click.option(
    "--harvest",
    multiple=True,
    default=MEANS_HARVEST,
    show_default=True,
    help="Labels that mean harvesting; all others are honest.",
)
FIELDS = click.option(
    "--fields", type=PATHS, callback=lambda ctx, option, value: _fields(value),
    help="A YAML file that says which fields of nginx or Envoy access logs tell what.",
)  # fmt: skip
OUT = click.option("--out", help="Write here, a file or a URL; needed for Parquet. JSONL goes to standard output if left out.")
MOST_NAMED = 20
WARM_UP = click.option(
    "--warm-up", default="0s", callback=lambda ctx, option, value: _duration(value),
    help="How long (such as 24h) exchanges are judged and counted by measures, but not yet reported.",
)  # fmt: skip


def _fields(path: Path | None) -> Fields:
    try:
        return DEFAULTS if path is None else read_fields(path)
    except LoadError as error:
        fail(error, 3)


def _duration(value: str) -> int:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def configured(file: Path | None) -> tuple[Registry, Config]:
    """The signals and settings of a gateway.yaml, or the defaults with the key that makes dry runs repeatable."""
    settings = load_config(file) if file is not None else default_config(DRY_RUN_KEY)
    return load_registry(settings.settings), settings


def apart(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Packs and gateway.yaml files apart, by what stands in them.

    A folder that holds a gateway.yaml gives its packs one by one, without that file and without account directories, which a
    gateway.yaml names. Raises PolicyError for a file in it that nobody would read.
    """
    packs: list[Path] = []
    configs: list[Path] = []
    for path in paths:
        inside = {file: _has(file, _CONFIG) for file in pack_files([path])} if seen(path, Path.is_dir) else {}
        if any(inside.values()):
            said = "is not read: packs end in .yaml"
            if passed_over := [Problem(Place(str(file)), said, "rename it") for file in unread([path])]:
                raise PolicyError(passed_over)
            configs += [file for file, is_config in inside.items() if is_config]
            packs += [file for file, is_config in inside.items() if not is_config and not _has(file, _DIRECTORY)]
        else:
            (configs if _has(path, _CONFIG) else packs).append(path)
    return packs, configs


def _has(path: Path, section: re.Pattern[bytes]) -> bool:
    return seen(path, Path.is_file) and path.stat().st_size <= MAX_BYTES and section.search(path.read_bytes()) is not None


def tell_unopened(opener: Opener) -> None:
    """Say how many records stayed sealed, and why: they were read by the hashes of their identifiers."""
    for why, count in sorted(opener.unopened.items()):
        click.echo(f"read by their hashes: {count:,} records, {why}", err=True)


def fail(error: object, code: int) -> NoReturn:
    click.echo(f"sluice: {error}" if not isinstance(error, LoadError) else str(error), err=True)
    sys.exit(code)


class Complaints:
    """Names the first records that are passed over, and counts the others."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: RecordError) -> None:
        self.count += 1
        if self.count <= MOST_NAMED:
            click.echo(f"unreadable: {error}", err=True)

    def rest(self) -> None:
        """Say how many were not named."""
        if self.count > MOST_NAMED:
            click.echo(f"unreadable: {self.count - MOST_NAMED:,} more records", err=True)
