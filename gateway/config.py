"""The process's settings: gateway.yaml, read once, as strictly as packs. The only reader of the environment.

Paths in the file are relative to it. Nothing has to be there but `upstreams`: the defaults keep everything in memory,
trust no proxy, use the bundled packs and keep the ledger of audit records in the folder `audit` beside the file.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gateway.audit.delivery import Endpoint
from gateway.decision import Mode
from gateway.disclosure import disclosed
from gateway.errors import ConfigError, LoadError, Place, Problem, did_you_mean
from gateway.facts import Cause
from gateway.failing import Dependency, Fail, FailModes
from gateway.literals import header_name
from gateway.sections import CONFIG_FIELDS, LARGEST_BODY, AddressHeader, Compression, FailWord
from gateway.strict.document import Node, contents, read
from gateway.strict.shapes import Problems, mapping
from gateway.values import SECOND

HASH_KEY_VARIABLE: Final = "SLUICE_HASH_KEY"
LARGEST_KEY: Final = 2**16
REMOTE_ONLY: Final = {
    "query": "an SQL database", "token_file": "an HTTP service", "timeout": "a directory that is asked",
    "cache": "a directory that is asked",
}  # fmt: skip
PLUGIN_SECTIONS: Final = ("identity", "client_address", "geo", "reseller", "declare", "clusters")


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
class StopSettings:
    """How the process ends. announce: µs that it serves on though it says it is not ready; grace: µs for what is under way."""

    announce: int = 0
    grace: int = 30 * SECOND


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
        _answers(entry, node, needs_upstreams, problems)
        _files(entry, node, problems)
        _client_address(entry["client_address"] or {}, node, problems)
        if (entry["clients"] or {}).get("per_address") and (entry["client_address"] or {}).get("hops"):
            mend = "name the proxies in client_address.trusted_proxies, or remove 'per_address'"
            problems.add(node.at("clients"), "per_address: with 'hops' nobody knows which connections are proxies'", mend)
        _directory(entry["identity"] or {}, node, problems)
        _otlp((entry["audit"] or {}).get("otlp") or {}, node, problems)
        if needs_upstreams and isinstance(node.value, dict) and "upstreams" not in node.value:
            problems.add(node.place, "gateway.yaml needs 'upstreams'", "by protocol, such as openai: {url: …}")
    if entry is None or problems.found:
        raise ConfigError(problems.found)
    identity = entry["identity"] or {}
    key, lasting = _hash_key(identity.get("hash_key_file"), os.environ if environ is None else environ)
    fail = _fail(entry["fail"], bool(identity.get("directory")))
    audit = entry["audit"] or {"records": None, "otlp": None, "keep": 1.0}
    host, port = entry["listen"]
    given = {name: {k: v for k, v in (entry[name] or {}).items() if v is not None} for name in PLUGIN_SECTIONS}
    given["identity"]["hash_key"] = key
    settings = {**given, "routes": entry["routes"], "places": _places(node)}
    return Config(
        source=str(file), host=host, port=port, policy=tuple(entry["policy"] or (bundled_rules(),)), mode=Mode(entry["mode"]),
        upstreams={name: _upstream(values) for name, values in entry["upstreams"].items()},
        fail=fail, largest_body=entry["largest_body"], state=StateSettings(**(entry["state"] or {})),
        records=audit["records"] or file.parent / "audit", otlp=_endpoint(audit["otlp"]), keep=audit["keep"],
        hash_key=key, lasting_key=lasting, settings=settings, inspect_window=entry["inspect_window"], waits=entry["clients"],
        watch=entry["reload"]["watch"], stop=StopSettings(**entry["stop"]),
    )  # fmt: skip


def _upstream(values: Mapping[str, Any]) -> UpstreamSettings:
    """One upstream, its places each with a weight, and its routes with the time-outs that they do not leave to it."""
    urls = tuple((one, 1) if isinstance(one, str) else (one["url"], one["weight"]) for one in values["url"])
    own = {name: {key: value for key, value in waits.items() if value is not None} for name, waits in values["routes"].items()}
    usual = {"read": values["read"], "total": values["total"]}
    routes = {name: ((usual | waits)["read"], (usual | waits)["total"]) for name, waits in own.items()}
    return UpstreamSettings(**{**values, "url": urls[0][0], "urls": urls, "routes": routes})


def _endpoint(values: Mapping[str, Any] | None) -> Endpoint | None:
    """Where traces go."""
    if values is None:
        return None
    packed = values["compression"] == Compression.GZIP
    return Endpoint(values["endpoint"], values["headers"], values["ca_file"], values["timeout"], packed)


def _otlp(given: Mapping[str, Any], node: Node, problems: Problems) -> None:
    """Report settings of a traces endpoint that cannot be meant."""
    audit = node.value["audit"].value if given and isinstance(node.value, dict) else None
    written = audit["otlp"] if isinstance(audit, dict) else None
    if written is None or not isinstance(written.value, dict):
        return
    ca_file, endpoint = given["ca_file"], given["endpoint"] or ""
    if ca_file is not None and not ca_file.is_file():
        problems.add(written.at("ca_file"), f"ca_file: there is no file {ca_file}", "paths are relative to this file")
    elif ca_file is not None and endpoint.startswith(("http:", "grpc:")):
        problems.add(written.at("ca_file"), "ca_file: the endpoint is not asked over TLS", "write https:// or grpcs://")
    if any(not header_name(name) for name in given["headers"] or ()):
        problems.add(written.at("headers"), "headers: a name is none of a header", "such as authorization")


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


_NOT_OPEN: Final = {  # by cause: why it cannot be let pass, how to mend that, and whether only the process cannot
    FailWord(Cause.ROUTE_UNRECOGNISED): (
        "an unrecognised route has no upstream, so it cannot pass", "remove it from 'fail'", True,
    ),
    FailWord(Cause.WEBSOCKET): ("the process carries no WebSockets, so they cannot pass", "remove it from 'fail'", True),
    FailWord(Cause.BODY_TOO_LARGE): (
        "a body that is too large was not read, so it cannot pass", "raise 'largest_body' instead", False,
    ),
}  # fmt: skip


def _answers(entry: Mapping[str, Any], node: Node, needs_upstreams: bool, problems: Problems) -> None:
    """Report what is written under `fail` and is neither a cause nor a dependency, or cannot be answered so."""
    below = node.value.get("fail") if isinstance(node.value, dict) else None
    written = below.value if below and isinstance(below.value, dict) else {}
    for word, place in ((word, child.named) for word, child in written.items()):
        mode, why = entry["fail"].get(word), _NOT_OPEN.get(word)
        if word not in list(FailWord):
            mend = did_you_mean(word, list(FailWord)) or "known: " + ", ".join(FailWord)
            problems.add(place, f"unknown cause or dependency '{word}' in fail", mend)
        elif mode is Fail.OPEN and why is not None and (needs_upstreams or not why[2]):
            problems.add(place, why[0], why[1])
        elif mode is Fail.DEGRADE and word not in list(Dependency):
            problems.add(place, f"{word}: an exchange cannot be let pass in part", "write open or closed")
        elif mode is Fail.DEGRADE and word == Dependency.STATE and not (entry["state"] or {}).get("replicas"):
            mend = "write state: {replicas: N}, all processes before this Redis, workers counted"
            problems.add(place, "state: degrade needs to know among how many processes the limits are shared", mend)


def _files(entry: Mapping[str, Any], node: Node, problems: Problems) -> None:
    """Report files that are not there, all of them and with everything else that is wrong; what is in them, others read."""
    for section in PLUGIN_SECTIONS:
        for key, value in (entry[section] or {}).items():
            for file in value if isinstance(value, list) else [value]:
                if isinstance(file, Path) and not file.exists():
                    assert isinstance(node.value, dict)
                    place = node.value[section].at(key)
                    problems.add(place, f"{key}: there is no file {file}", "paths are relative to this file")


def _client_address(given: Mapping[str, Any], node: Node, problems: Problems) -> None:
    """Report settings of the caller's address that contradict each other, or that would believe nobody in silence."""
    section = node.value.get("client_address") if isinstance(node.value, dict) else None
    trusted, hops = given.get("trusted_proxies"), given.get("hops")
    if section is None:
        return
    if trusted and hops:
        mend = "keep 'trusted_proxies' where the addresses of the proxies are known, else 'hops'"
        problems.add(section.at("hops"), "client_address has both 'trusted_proxies' and 'hops'", mend)
    if hops and hops > 1 and given.get("header") == AddressHeader.X_REAL_IP:
        mend = "write hops: 1, or have the proxies write x-forwarded-for or forwarded"
        problems.add(section.at("hops"), f"hops: x-real-ip names one address, not {hops}", mend)
    if given.get("proxy_protocol") and not trusted:
        mend = "name the balancers that speak it in 'trusted_proxies'"
        problems.add(section.at("proxy_protocol"), "proxy_protocol: nobody is trusted to speak it", mend)
    written = section.value if isinstance(section.value, dict) else {}
    believed = any(written[key].value for key in ("trusted_proxies", "hops") if key in written)
    for key in ("header", "ja4"):
        if key in written and not believed:
            mend = f"name the proxies in 'trusted_proxies', or their number in 'hops'; else remove '{key}'"
            problems.add(section.at(key), f"{key}: nobody is trusted to write it, so it is never read", mend)


def _directory(given: Mapping[str, Any], node: Node, problems: Problems) -> None:
    """Report settings of a directory that is asked, where the directory is a file or there is none."""
    section = node.value.get("identity") if isinstance(node.value, dict) else None
    written, directory = section.value if section else None, given.get("directory")
    if not isinstance(written, dict) or ("directory" in written and not isinstance(directory, Path)):
        return
    why = "the directory is a file" if directory else "there is no directory"
    for key, meant in REMOTE_ONLY.items():
        if key in written:
            problems.add(written[key].named, f"'{key}' is for {meant}, but {why}", f"remove '{key}'")


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
