"""`sluice config`: the settings in force, with every default, and no secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.common import PATHS, fail
from gateway.config import HASH_KEY_VARIABLE, Config, load_config
from gateway.consistency import REMOTE_ONLY
from gateway.disclosure import Disclosed, disclosed
from gateway.errors import SluiceError
from gateway.failing import OF_THE_EXCHANGE, Dependency, Fail
from gateway.literals import size
from gateway.sections import CONFIG_FIELDS, content_size
from gateway.strict.document import Node, read
from gateway.strict.shapes import BEHIND, Field, Problems, Shape, schema_of
from gateway.values import parse_duration

MASK: Final = "***"
_USER: Final = re.compile(r"(?<=://)([^:@]*):?.*@")
_ASKED: Final = re.compile(r"([?&][^=&#]*)=[^&#]*")
_UNITS: Final = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1))
_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_IF_WRITTEN: Final = (
    "audit.content",
    "client_address",
    "geo",
    "reseller",
    "clusters",
    "declare",
    "admin",
)  # else none is in force
_WHOLE: Final = ("fail",)  # of which some is written, and the rest is in force all the same


@click.command(name="config")
@click.argument("config", type=PATHS)
def config(config: Path) -> None:
    """Print the settings in force, as YAML: those of CONFIG, and the defaults of all others, marked as such.

    Secrets are printed as ***, with where they come from; so are passwords and parameters in URLs.

    Exit: 0, or 2 for a bad config.
    """
    try:
        settings = load_config(config)
        node = disclosed(read(config), _AS_LOADED, Problems())
    except SluiceError as error:
        fail(error, 2)
    effective = _effective(settings)
    for line in _lines(CONFIG_FIELDS, node, effective, "", 0):
        click.echo(line)
    click.echo(_hash_key(settings, node))


class _Loaded(dict[str, str]):
    """Stands for the environment: `load_config` has read it, and here only where a secret comes from is shown."""

    def get(self, key: str, default: Any = None) -> Any:
        return MASK


_AS_LOADED: Final = _Loaded()


def _effective(settings: Config) -> dict[str, Any]:
    """What is in force where nothing is written and other settings decide, by dotted name."""
    found: dict[str, Any] = {
        "policy": [str(path) for path in settings.policy],
        "audit.records": str(settings.records) if settings.records else None,
        "fail": {str(word): str(mode) for word, mode in _fail_modes(settings)},
    }
    if not isinstance(settings.settings["identity"].get("directory"), str):  # what is for one that is asked means nothing
        found |= {f"identity.{key}": None for key in REMOTE_ONLY}
    return found


def _fail_modes(settings: Config) -> Iterator[tuple[str, Fail]]:
    for cause in OF_THE_EXCHANGE:
        yield cause, Fail.CLOSED if settings.fail.refuses(cause) else Fail.OPEN
    for name in Dependency:
        yield name, settings.fail.of(name)


def _lines(
    fields: Mapping[str, Field], node: Node | None, effective: Mapping[str, Any], above: str, depth: int
) -> Iterator[str]:
    """The lines of one mapping."""
    written = node.value if node is not None and isinstance(node.value, dict) else {}
    for key, spec in fields.items():
        yield from _entry(key, spec, written.get(key), effective, f"{above}{key}", depth)


def _entry(key: str, spec: Field, node: Node | None, effective: Mapping[str, Any], name: str, depth: int) -> Iterator[str]:
    indent, shape = "  " * depth, spec.read if isinstance(spec.read, Shape) else None
    if name in effective and effective[name] is None and node is None:
        return
    if shape is not None and shape.fields:
        below = list(_lines(shape.fields, node, effective, f"{name}.", depth + 1))
        if below and (node is not None or name not in _IF_WRITTEN):
            yield f"{indent}{key}:"
            yield from below
    elif shape is not None and isinstance(shape.each, Shape) and shape.each.fields:
        named = node.value if node is not None and isinstance(node.value, dict) else {}
        if named:
            yield f"{indent}{key}:"
        for one, child in named.items():
            yield f"{indent}  {one}:"
            yield from _lines(shape.each.fields, child, {}, f"{name}.{one}.", depth + 2)
    elif node is not None and name in _WHOLE:
        yield f"{indent}{key}: {_default(effective[name], {})}"
    elif node is not None:
        hidden = bool(schema_of(spec.read).get("writeOnly"))
        shown = f"'{MASK}'" if hidden else _written(node.value)
        yield f"{indent}{key}: {shown}" + (f"  # {node.value.origin}" if isinstance(node.value, Disclosed) else "")
    elif (value := effective.get(name, spec.default)) not in (None, "", [], {}):
        yield f"{indent}{key}: {_default(value, schema_of(spec.read))}  # default"


def _written(value: Any) -> str:
    """A value as it stands in the file, without what is secret in it."""
    if isinstance(value, Disclosed):
        return f"'{MASK}'"
    if isinstance(value, list):
        return "[" + ", ".join(_written(one.value) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written_as(key, one.value)}" for key, one in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else str(value)


def _written_as(key: str, value: Any) -> str:
    """Of headers, only their names: what they say may let somebody in, wherever it stands."""
    if key == "headers" and isinstance(value, dict):
        return "{" + ", ".join(f"{name}: '{MASK}'" for name in value) + "}"
    return _written(value)


def _default(value: Any, schema: Mapping[str, Any]) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(str(one)) for one in value) + "]"
    if isinstance(value, tuple):
        return ":".join(str(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and not isinstance(value, StrEnum):
        known = {parse_duration: _UNITS, size: _SIZES, content_size: _SIZES}
        units = known.get(schema.get(BEHIND), ())  # type: ignore[arg-type]
        return next(
            (f"{value // scale}{unit}" for unit, scale in units if value and value % scale == 0), "0s" if units else str(value)
        )
    return _text(str(value))


def _text(value: str) -> str:
    """Text as YAML, and what may be secret in a URL left out."""
    if "://" in value:
        value = _ASKED.sub(rf"\1={MASK}", _USER.sub(lambda found: f"{found[1] if ':' in found[0] else ''}:{MASK}@", value))
    plain = re.fullmatch(r"[A-Za-z0-9/._+-][A-Za-z0-9/._ +:*@=?&-]*", value) and ": " not in value
    return value if plain else "'" + value.replace("'", "''") + "'"


def _hash_key(settings: Config, node: Node) -> str:
    identity = node.value.get("identity") if isinstance(node.value, dict) else None
    if identity is not None and isinstance(identity.value, dict) and "hash_key_file" in identity.value:
        return f"# hash key: {MASK}, from identity.hash_key_file"
    if settings.lasting_key:
        return f"# hash key: {MASK}, from the environment variable {HASH_KEY_VARIABLE}"
    return "# hash key: drawn at the start; set identity.hash_key_file, so that hashes join with those of another run"
