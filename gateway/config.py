"""The process's settings: gateway.yaml, read once, as strictly as packs. The only reader of the environment.

Paths in the file are relative to it. Nothing has to be there but `upstreams`: the defaults keep everything in memory,
trust no proxy, use the bundled packs and write the audit records to `audit.jsonl` beside the file.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gateway.decision import Mode
from gateway.enforcement import DEFAULT_CAUSES, Fail, FailModes
from gateway.errors import ConfigError, LoadError, Place, Problem, did_you_mean
from gateway.facts import Cause
from gateway.strict.document import Node, contents, read
from gateway.strict.shapes import Field, Problems, entries, listing, mapping, number, one_of, path, scalar, text
from gateway.values import SECOND, parse_duration

HASH_KEY_VARIABLE: Final = "SLUICE_HASH_KEY"
MIB: Final = 2**20
LARGEST_BODY: Final = 32 * MIB
LARGEST_KEY: Final = 2**16
_SIZE: Final = re.compile(r"(\d+)\s*(KiB|MiB|GiB)")
_SCALE: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One upstream: where it is, and how long (µs) to wait for a connection and between two reads."""

    url: str
    connect: int = 5 * SECOND
    read: int = 300 * SECOND


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where windows and limits are kept. timeout: µs for one round trip; prefix: what this installation's keys begin with."""

    url: str = "memory://"
    timeout: int = 250_000
    prefix: str = "sluice"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything in gateway.yaml. `settings` holds the sections that plugins read, by name."""

    source: str
    host: str
    port: int
    policy: tuple[Path, ...]
    mode: Mode
    upstreams: Mapping[str, UpstreamSettings]
    fail: FailModes
    largest_body: int
    state: StateSettings
    records: Path | None
    otlp: str
    keep: float
    hash_key: bytes = field(repr=False)
    lasting_key: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


def bundled_rules() -> Path:
    """The folder of the bundled packs."""
    return Path(str(files("gateway.rules")))


def size(literal: Any) -> int:
    """Bytes of `512KiB`, `32MiB` or a plain number."""
    if isinstance(literal, int) and not isinstance(literal, bool) and literal > 0:
        return literal
    found = _SIZE.fullmatch(str(literal))
    if found is None:
        raise ValueError(f"{literal!r} is not a size; write it as 512KiB or 32MiB")
    return int(found[1]) * _SCALE[found[2]]


def _listen(literal: Any) -> tuple[str, int]:
    host, _, port = str(literal).rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{literal!r} is not an address; write it as 127.0.0.1:8787 or [::1]:8787")
    return host.strip("[]"), int(port)


def _url(literal: Any) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", str(literal)):
        raise ValueError(f"{literal!r} is not an http(s) URL")
    return str(literal)


def _state_url(literal: Any) -> str:
    if not re.match(r"(memory://$|rediss?://|unix://)", str(literal)):
        raise ValueError(f"{literal!r} is not a state; write memory:// or redis://host:6379/0")
    return str(literal)


def _network(literal: Any) -> str:
    try:
        written = ipaddress.ip_interface(str(literal))
    except ValueError:
        raise ValueError(f"{literal!r} is not a network; write it as 10.0.0.0/8") from None
    if written.ip != written.network.network_address:
        raise ValueError(f"{literal!r} is an address inside a network; write {written.network}")
    return str(written.network)


_UPSTREAM: Final = {
    "url": Field(scalar(_url, "url"), required=True, doc="such as https://api.example.com"),
    "connect": Field(scalar(parse_duration, "connect"), default=5 * SECOND, doc="time to connect"),
    "read": Field(scalar(parse_duration, "read"), default=300 * SECOND, doc="time between two reads of an answer"),
}
_IDENTITY: Final = {
    "directory": Field(path("directory"), doc="a YAML file of accounts"),
    "hash_key_file": Field(path("hash_key_file"), doc="a file whose bytes are the secret key of all hashes"),
    "missing": Field(one_of(Fail, "missing"), doc="requests without a credential: pass or refuse"),
    "unknown": Field(one_of(Fail, "unknown"), doc="credentials the directory does not list: pass or refuse"),
}
_AUDIT: Final = {
    "records": Field(path("records"), doc="file of audit records, one JSON object a line"),
    "otlp": Field(scalar(_url, "otlp"), default="", doc="OTLP/HTTP traces URL, such as http://127.0.0.1:4318/v1/traces"),
    "keep": Field(number("keep", 0, 1), default=1.0, doc="share of allows and observes whose traces are kept"),
}
_STATE: Final = {
    "url": Field(scalar(_state_url, "url"), default="memory://", doc="memory:// or redis://…"),
    "timeout": Field(scalar(parse_duration, "timeout"), default=250_000, doc="for one round trip"),
    "prefix": Field(text("prefix", 40), default="sluice", doc="what this installation's keys begin with"),
    "on_failure": Field(one_of(Fail, "on_failure"), default=Fail.REFUSE, doc="shared state does not answer: pass or refuse"),
}
_CauseWord = StrEnum("_CauseWord", {cause.name: str(cause) for cause in Cause if "credential" not in cause})  # type: ignore[misc]
_CLIENT_ADDRESS: Final = {
    "trusted_proxies": Field(listing(scalar(_network, "a network"), "trusted_proxies"), default=[], doc="believed hops"),
}
CONFIG_FIELDS: Final = {
    "listen": Field(scalar(_listen, "listen"), default=("127.0.0.1", 8787), doc="address and port"),
    "policy": Field(listing(path("policy"), "policy", empty=False), doc="packs or folders of packs; else the bundled ones"),
    "mode": Field(one_of(Mode, "mode"), default=Mode.ENFORCE, doc="above every rule's own mode"),
    "upstreams": Field(entries(mapping(_UPSTREAM, "an upstream"), "upstreams"), default={}, doc="by protocol"),
    "identity": Field(mapping(_IDENTITY, "identity")),
    "client_address": Field(mapping(_CLIENT_ADDRESS, "client_address")),
    "geo": Field(mapping({"country": Field(path("country")), "asn": Field(path("asn"))}, "geo")),
    "reseller": Field(mapping({"contradictions": Field(path("contradictions"))}, "reseller")),
    "state": Field(mapping(_STATE, "state")),
    "audit": Field(mapping(_AUDIT, "audit")),
    "largest_body": Field(scalar(size, "largest_body"), default=LARGEST_BODY, doc="bytes of request body accepted"),
    "fail": Field(entries(one_of(Fail, "a fail mode"), "fail"), default={}, doc="cause: pass or refuse"),
}  # fmt: skip


_FILES: Final = (
    ("identity", "directory"), ("identity", "hash_key_file"), ("geo", "country"), ("geo", "asn"),
    ("reseller", "contradictions"),
)  # fmt: skip


def default_config(hash_key: bytes | None = None) -> Config:
    """The settings where there is no file: the bundled packs, nothing kept, nobody trusted."""
    key, lasting = (hash_key, True) if hash_key else _hash_key(None, os.environ)
    return Config(
        source="", host="", port=0, policy=(bundled_rules(),), mode=Mode.ENFORCE, upstreams={}, fail=FailModes(),
        largest_body=LARGEST_BODY, state=StateSettings(), records=None, otlp="", keep=1.0, hash_key=key, lasting_key=lasting,
        settings={"identity": {"hash_key": key}},
    )  # fmt: skip


def load_config(file: Path, environ: Mapping[str, str] | None = None, needs_upstreams: bool = True) -> Config:
    """The settings of a file. Raises ConfigError with every problem found."""
    problems = Problems(raises=ConfigError)
    try:
        node = read(file)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    entry = mapping(CONFIG_FIELDS, "gateway.yaml")(node, problems)
    if entry is not None:
        _causes(entry["fail"], node, needs_upstreams, problems)
        _files(entry, node, problems)
        if needs_upstreams and isinstance(node.value, dict) and "upstreams" not in node.value:
            problems.add(node.place, "gateway.yaml needs 'upstreams'", "by protocol, such as openai: {url: …}")
    if entry is None or problems.found:
        raise ConfigError(problems.found)
    identity = entry["identity"] or {}
    key, lasting = _hash_key(identity.get("hash_key_file"), os.environ if environ is None else environ)
    state = dict(entry["state"] or {"on_failure": Fail.REFUSE})
    on_failure = Fail(state.pop("on_failure"))
    audit = entry["audit"] or {"records": None, "otlp": "", "keep": 1.0}
    host, port = entry["listen"]
    names = ("client_address", "geo", "reseller")
    settings = {name: {k: v for k, v in (entry[name] or {}).items() if v is not None} for name in names}
    return Config(
        source=str(file), host=host, port=port, policy=tuple(entry["policy"] or (bundled_rules(),)), mode=Mode(entry["mode"]),
        upstreams={name: UpstreamSettings(**values) for name, values in entry["upstreams"].items()},
        fail=_fail(entry["fail"], identity, on_failure), largest_body=entry["largest_body"], state=StateSettings(**state),
        records=audit["records"] or file.parent / "audit.jsonl", otlp=audit["otlp"], keep=audit["keep"], hash_key=key,
        lasting_key=lasting,
        settings={**settings, "identity": {"directory": identity.get("directory"), "hash_key": key}},
    )  # fmt: skip


def _causes(fail: Mapping[str, Fail], node: Node, needs_upstreams: bool, problems: Problems) -> None:
    """Report causes that are none, or that cannot be let pass."""
    below = node.value.get("fail") if isinstance(node.value, dict) else None
    places = {word: child.named for word, child in below.value.items()} if below and isinstance(below.value, dict) else {}
    for word, place in places.items():
        if word not in list(_CauseWord):
            mend = did_you_mean(word, list(_CauseWord)) or "known: " + ", ".join(_CauseWord)
            problems.add(place, f"unknown cause '{word}' in fail", mend)
        elif fail.get(word) is Fail.PASS and word == Cause.ROUTE_UNRECOGNISED and needs_upstreams:
            problems.add(place, "an unrecognised route has no upstream, so it cannot pass", "remove it from 'fail'")
        elif fail.get(word) is Fail.PASS and word == Cause.BODY_TOO_LARGE:
            problems.add(place, "a body that is too large was not read, so it cannot pass", "raise 'largest_body' instead")


def _files(entry: Mapping[str, Any], node: Node, problems: Problems) -> None:
    """Report files that are not there, all of them and with everything else that is wrong; what is in them, others read."""
    for section, key in _FILES:
        file = (entry[section] or {}).get(key)
        if file is not None and not file.exists():
            assert isinstance(node.value, dict)
            problems.add(node.value[section].at(key), f"{key}: there is no file {file}", "paths are relative to this file")


def _fail(words: Mapping[str, Fail], identity: Mapping[str, Any], on_failure: Fail) -> FailModes:
    strict = Fail.REFUSE if identity.get("directory") else Fail.PASS
    causes = dict(DEFAULT_CAUSES) | {Cause(word): Fail(mode) for word, mode in words.items()}
    causes[Cause.CREDENTIAL_MISSING] = identity.get("missing") or strict
    causes[Cause.CREDENTIAL_UNKNOWN] = identity.get("unknown") or strict
    return FailModes(causes, on_failure)


def _hash_key(file: Path | None, environ: Mapping[str, str]) -> tuple[bytes, bool]:
    """The secret of all hashes, and whether it outlives this process."""
    if file is not None:
        try:
            key = contents(file, LARGEST_KEY).strip()
        except LoadError as error:
            raise ConfigError(error.problems) from None
        if len(key) < 16:
            raise ConfigError([Problem(Place(str(file)), "is shorter than 16 bytes", "put 32 random bytes there")])
        return key, True
    if environ.get(HASH_KEY_VARIABLE):
        return environ[HASH_KEY_VARIABLE].encode(), True
    return secrets.token_bytes(32), False
