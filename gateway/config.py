"""The process's settings: gateway.yaml, read once, as strictly as packs. The only reader of the environment.

Paths in the file are relative to it. Nothing has to be there but `upstreams`: the defaults keep everything in memory,
trust no proxy, use the bundled packs and keep the ledger of audit records in the folder `audit` beside the file.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gateway.audit.content import ContentSettings
from gateway.audit.delivery import Endpoint
from gateway.audit.opening import AuditSettings
from gateway.consistency import report
from gateway.decision import Mode
from gateway.disclosure import disclosed
from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.facts import Cause
from gateway.failing import Dependency, Fail, FailModes
from gateway.logs import LogSettings
from gateway.sections import CONFIG_FIELDS, LARGEST_BODY, PLUGIN_SECTIONS, Compression, FailWord, Role
from gateway.strict.document import Node, contents, read
from gateway.strict.shapes import Problems, mapping
from gateway.values import SECOND

HASH_KEY_VARIABLE: Final = "SLUICE_HASH_KEY"
LARGEST_KEY: Final = 2**16


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One upstream: where it is, and how long (µs) to wait for a connection, between two reads, and for all of an answer.

    total: 0 for as long as it takes. proxy: the URL of an HTTP proxy on the way, with its password; empty for none.
    connections: the most that are open at once. ca_file: authorities believed in place of the system's. urls: each place it is
    at, with its weight (one, unless several were written); url: the first. routes: `read` and `total` of routes that have
    their own.
    """

    url: str
    connect: int = 5 * SECOND
    read: int = 300 * SECOND
    ask_usage: bool = True
    total: int = 0
    proxy: str = field(default="", repr=False)
    connections: int = 1_024
    ca_file: Path | None = None
    urls: tuple[tuple[str, int], ...] = ()
    routes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.urls:
            object.__setattr__(self, "urls", ((self.url, 1),))


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where windows and limits are kept. timeout: µs for one round trip; prefix: what this installation's keys begin with.

    replicas: the processes that share each limit while shared state fails; None where nobody said.
    """

    url: str = "memory://"
    timeout: int = 250_000
    prefix: str = "sluice"
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where metrics go. listen: of the Prometheus endpoint; every: µs between two exports over OTLP. Nowhere by default."""

    listen: tuple[str, int] | None = None
    otlp: Endpoint | None = None
    every: int = 15 * SECOND


@dataclass(frozen=True, slots=True)
class StopSettings:
    """How the process ends. announce: µs that it serves on though it says it is not ready; grace: µs for what is under way."""

    announce: int = 0
    grace: int = 30 * SECOND


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """A token of the admin listener and what it is good for."""

    token: str = field(repr=False)
    role: Role = Role.READ


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The admin listener. rate: requests a minute of one token; halt: the file in which a halt stands.

    tls: the files of its certificate and key; None for plain HTTP, on this machine only.
    """

    host: str
    port: int
    tokens: Mapping[str, TokenSettings]
    rate: int
    halt: Path
    tls: tuple[Path, Path] | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything in gateway.yaml.

    settings: the sections that plugins read, by name; and under `places` where each of them and of their keys stands in the
    file, by dotted name (`identity`, `identity.directory`), for messages. waits: the section `clients`. watch: µs between two
    looks at the packs, 0 for none.
    """

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
    otlp: Endpoint | None
    keep: float
    hash_key: bytes = field(repr=False)
    lasting_key: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    inspect_window: int = LARGEST_BODY
    waits: Mapping[str, int] = field(default_factory=dict)
    watch: int = 0
    stop: StopSettings = field(default_factory=StopSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    admin: AdminSettings | None = None


def bundled_rules() -> Path:
    """The folder of the bundled packs."""
    return Path(str(files("gateway.rules")))


def default_config(hash_key: bytes | None = None) -> Config:
    """The settings where there is no file: the bundled packs, nothing kept, nobody trusted."""
    key, lasting = (hash_key, True) if hash_key else _hash_key(None, os.environ)
    return Config(
        source="", host="", port=0, policy=(bundled_rules(),), mode=Mode.ENFORCE, upstreams={}, fail=FailModes(),
        largest_body=LARGEST_BODY, state=StateSettings(), records=None, otlp=None, keep=1.0, hash_key=key, lasting_key=lasting,
        settings={"identity": {"hash_key": key}},
    )  # fmt: skip


def load_config(file: Path, environ: Mapping[str, str] | None = None, needs_upstreams: bool = True) -> Config:
    """The settings of a file. Raises ConfigError with every problem found."""
    problems = Problems(raises=ConfigError)
    try:
        node = disclosed(read(file), os.environ if environ is None else environ, problems)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    entry = mapping(CONFIG_FIELDS, "gateway.yaml")(node, problems)
    if entry is not None:
        report(entry, node, needs_upstreams, problems)
    if entry is None or problems.found:
        raise ConfigError(problems.found)
    identity = entry["identity"] or {}
    key, lasting = _hash_key(identity.get("hash_key_file"), os.environ if environ is None else environ)
    fail = _fail(entry["fail"], bool(identity.get("directory")))
    audit = entry["audit"]
    host, port = entry["listen"]
    given = {name: {k: v for k, v in (entry[name] or {}).items() if v is not None} for name in PLUGIN_SECTIONS}
    given["identity"]["hash_key"] = key
    settings = {**given, "routes": entry["routes"], "places": _places(node), "fail": fail}
    return Config(
        source=str(file), host=host, port=port, policy=tuple(entry["policy"] or (bundled_rules(),)), mode=Mode(entry["mode"]),
        upstreams={name: _upstream(values) for name, values in entry["upstreams"].items()},
        fail=fail, largest_body=entry["largest_body"], state=StateSettings(**(entry["state"] or {})),
        records=audit["records"] or file.parent / "audit", otlp=_endpoint(audit["otlp"]), keep=audit["keep"],
        hash_key=key, lasting_key=lasting, settings=settings, inspect_window=entry["inspect_window"], waits=entry["clients"],
        watch=entry["reload"]["watch"], stop=StopSettings(**entry["stop"]), audit=_audit(audit, file),
        metrics=MetricsSettings(**{**entry["metrics"], "otlp": _endpoint(entry["metrics"]["otlp"])}),
        log=LogSettings(**entry["log"]), admin=_admin(entry["admin"], file.parent),
    )  # fmt: skip


def _upstream(values: Mapping[str, Any]) -> UpstreamSettings:
    """One upstream, its places each with a weight, and its routes with the time-outs that they do not leave to it."""
    urls = tuple((one, 1) if isinstance(one, str) else (one["url"], one["weight"]) for one in values["url"])
    own = {name: {key: value for key, value in waits.items() if value is not None} for name, waits in values["routes"].items()}
    usual = {"read": values["read"], "total": values["total"]}
    routes = {name: ((usual | waits)["read"], (usual | waits)["total"]) for name, waits in own.items()}
    return UpstreamSettings(**{**values, "url": urls[0][0], "urls": urls, "routes": routes})


def _endpoint(values: Mapping[str, Any] | None) -> Endpoint | None:
    """Where traces or metrics go."""
    if values is None:
        return None
    packed = values["compression"] == Compression.GZIP
    return Endpoint(values["endpoint"], values["headers"], values["ca_file"], values["timeout"], packed)


def _audit(values: Mapping[str, Any], file: Path) -> AuditSettings:
    """How the ledger is kept; its keys lie beside it where nobody says where."""
    given = {name: values[name] for name in (one.name for one in fields(AuditSettings)) if values[name] is not None}
    if said := given.pop("content", None):
        given["content"] = ContentSettings(tuple(said["routes"]), said["most"])
    return AuditSettings(**{"keys": file.parent / "audit.keys", **given})


def _places(node: Node) -> dict[str, Place]:
    """Where the sections that plugins read stand, and the values of their keys."""
    written = node.value if isinstance(node.value, dict) else {}
    found: dict[str, Place] = {}
    for name in (name for name in PLUGIN_SECTIONS if name in written):
        found[name] = written[name].named
        below = written[name].value
        found |= {f"{name}.{key}": child.place for key, child in below.items()} if isinstance(below, dict) else {}
    routes = written["routes"].value if "routes" in written else None
    found |= {f"routes.{place}": child.place for place, child in enumerate(routes)} if isinstance(routes, list) else {}
    return found


def _admin(given: Mapping[str, Any] | None, beside: Path) -> AdminSettings | None:
    if given is None:
        return None
    host, port = given["listen"]
    tokens = {name: TokenSettings(one["token"], Role(one["role"])) for name, one in given["tokens"].items()}
    tls = (given["tls"]["certificate"], given["tls"]["key"]) if given["tls"] else None
    return AdminSettings(host, port, tokens, given["rate"], given["halt"] or beside / "halt.json", tls)


def _fail(words: Mapping[str, Fail], listed: bool) -> FailModes:
    """listed: whether there is a directory, so that whoever has no credential of it is nobody's customer."""
    strict = Fail.CLOSED if listed else Fail.OPEN
    modes = {FailWord(Cause.CREDENTIAL_MISSING): strict, FailWord(Cause.CREDENTIAL_UNKNOWN): strict, **words}
    causes = {Cause(word): Fail(mode) for word, mode in modes.items() if word not in list(Dependency)}
    return FailModes(causes, {Dependency(word): Fail(mode) for word, mode in modes.items() if word in list(Dependency)})


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
