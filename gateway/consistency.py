"""What in a gateway.yaml cannot be meant together, or cannot be at all: contradictions, files that are not there, answers that
nobody can give. Each key for itself is read by its shape (`sections`); here they are looked at side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.errors import did_you_mean
from gateway.facts import Cause
from gateway.failing import Dependency, Fail
from gateway.literals import header_name, is_local
from gateway.sections import PLUGIN_SECTIONS, AddressHeader, FailWord
from gateway.strict.document import Node
from gateway.strict.shapes import Problems

REMOTE_ONLY: Final = {
    "query": "an SQL database", "token_file": "an HTTP service", "timeout": "a directory that is asked",
    "cache": "a directory that is asked",
}  # fmt: skip


def report(entry: Mapping[str, Any], node: Node, needs_upstreams: bool, problems: Problems) -> None:
    """Report all of it. entry: what was read from `node`."""
    _answers(entry, node, needs_upstreams, problems)
    _files(entry, node, problems)
    _client_address(entry["client_address"] or {}, node, problems)
    if (entry["clients"] or {}).get("per_address") and (entry["client_address"] or {}).get("hops"):
        mend = "name the proxies in client_address.trusted_proxies, or remove 'per_address'"
        problems.add(node.at("clients"), "per_address: with 'hops' nobody knows which connections are proxies'", mend)
    _directory(entry["identity"] or {}, node, problems)
    _admin(entry["admin"] or {}, node, problems)
    for section in ("audit", "metrics"):
        _otlp((entry[section] or {}).get("otlp") or {}, section, node, problems)
    if needs_upstreams and isinstance(node.value, dict) and "upstreams" not in node.value:
        problems.add(node.place, "gateway.yaml needs 'upstreams'", "by protocol, such as openai: {url: …}")


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


def _admin(given: Mapping[str, Any], node: Node, problems: Problems) -> None:
    """Report an admin listener that nobody may use, or that is in the open."""
    if not given:
        return
    host, _ = given["listen"]
    if not given["tokens"]:
        problems.add(node.at("admin"), "nobody may ask the admin listener", "name a token: {oncall: {token: {file: PATH}}}")
    if not is_local(host) and given["tls"] is None:
        mend = "name tls: {certificate: PATH, key: PATH}, or listen on 127.0.0.1"
        problems.add(node.at("admin"), f"the admin listener would be open on {host}: tokens would pass in plain text", mend)


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


def _otlp(given: Mapping[str, Any], section: str, node: Node, problems: Problems) -> None:
    """Report settings of an OTLP endpoint that cannot be meant. section: whose."""
    above = node.value[section].value if given and isinstance(node.value, dict) else None
    written = above["otlp"] if isinstance(above, dict) else None
    if written is None or not isinstance(written.value, dict):
        return
    ca_file, endpoint = given["ca_file"], given["endpoint"] or ""
    if ca_file is not None and not ca_file.is_file():
        problems.add(written.at("ca_file"), f"ca_file: there is no file {ca_file}", "paths are relative to this file")
    elif ca_file is not None and endpoint.startswith(("http:", "grpc:")):
        problems.add(written.at("ca_file"), "ca_file: the endpoint is not asked over TLS", "write https:// or grpcs://")
    if any(not header_name(name) for name in given["headers"] or ()):
        problems.add(written.at("headers"), "headers: a name is none of a header", "such as authorization")
