"""Requests as bytes and ordered headers, read by the real intake, for tests of what clients and relays look like."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gateway.decision import Mode
from gateway.errors import Place
from gateway.facts import Answer, Facts
from gateway.language.compile import load as load_policy
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.replay.driver import Replayed, replay
from gateway.replay.exchange import Exchange
from gateway.signals import View
from gateway.values import SECOND
from gateway.web.intake import Body, Head, Intake

KEY = b"a key of the tests' own"
START = 1_793_500_000 * SECOND
RULES = Path(__file__).parents[2] / "rules"
Headers = tuple[tuple[str, str], ...]

STAINLESS: Headers = (
    ("x-stainless-lang", "python"), ("x-stainless-package-version", "3.1.0"), ("x-stainless-os", "Linux"),
    ("x-stainless-arch", "x64"), ("x-stainless-runtime", "CPython"), ("x-stainless-runtime-version", "3.12.1"),
    ("x-stainless-retry-count", "0"),
)  # fmt: skip
PYTHON: Headers = (
    ("host", "gateway.example"), ("accept-encoding", "gzip, deflate"), ("connection", "keep-alive"),
    ("accept", "application/json"), ("content-type", "application/json"), ("user-agent", "OpenAI/Python 3.1.0"), *STAINLESS,
    ("authorization", "Bearer sk-test"), ("content-length", "9"),
)  # fmt: skip
OTHER_PYTHON: Headers = (
    ("host", "gateway.example"), ("accept-encoding", "gzip, deflate"), ("connection", "keep-alive"),
    ("accept", "application/json"), ("content-type", "application/json"), ("user-agent", "Anthropic/Python 2.1.0"), *STAINLESS,
    ("anthropic-version", "2023-06-01"), ("x-api-key", "sk-ant-test"), ("content-length", "9"),
)  # fmt: skip
AGENT: Headers = (
    ("accept", "application/json"), ("content-type", "application/json"), ("user-agent", "claude-cli/2.1.5 (external, cli)"),
    ("x-stainless-arch", "x64"), ("x-stainless-lang", "js"), ("x-stainless-os", "Linux"),
    ("x-stainless-package-version", "0.94.0"), ("x-stainless-retry-count", "0"), ("x-stainless-runtime", "node"),
    ("x-stainless-runtime-version", "v26.3.0"), ("x-stainless-timeout", "600"), ("anthropic-beta", "claude-code-20250219"),
    ("anthropic-version", "2023-06-01"), ("x-api-key", "sk-ant-test"), ("x-app", "cli"), ("connection", "keep-alive"),
    ("host", "gateway.example"), ("accept-encoding", "gzip, deflate, br, zstd"), ("content-length", "9"),
)  # fmt: skip
CURL: Headers = (
    ("host", "gateway.example"), ("user-agent", "curl/8.5.0"), ("accept", "*/*"), ("content-type", "application/json"),
    ("authorization", "Bearer sk-test"), ("content-length", "9"),
)  # fmt: skip
PLAIN: Headers = (
    ("host", "gateway.example"), ("user-agent", "app/1.0"), ("accept", "*/*"), ("authorization", "Bearer sk-test"),
    ("content-type", "application/json"), ("content-length", "9"),
)  # fmt: skip
CHAT = {"model": "large-2", "messages": [{"role": "user", "content": "is a < b & c?"}], "temperature": 0.5, "stream": False}
TALK = {"model": "large-2", "max_tokens": 512, "messages": [{"role": "user", "content": "is a < b & c?"}]}
AGENT_TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("Bash", "Read", "Edit", "Write", "Glob")]
WORK = {"model": "large-2", "messages": TALK["messages"], "tools": AGENT_TOOLS, "max_tokens": 512, "stream": True}


@cache
def registry(markers: str = "", ja4: bool = False) -> Registry:
    """The shipped signals; with markers of one's own, or behind a trusted edge that passes JA4."""
    edge = {"client_address": {"trusted_proxies": ["192.0.2.0/24"], "ja4": "x-edge-ja4"}} if ja4 else {}
    settings: dict[str, Any] = {"identity": {"hash_key": KEY}, **edge}
    if not markers:
        return load_registry(settings)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "markers.yaml"
        file.write_text(markers)
        return load_registry({**settings, "reseller": {"markers": file}})


def but(headers: Headers, changes: Mapping[str, str] | None = None, without: Iterable[str] = ()) -> Headers:
    """The headers with some changed in place, others added behind, and some left out (names or their beginnings)."""
    left, gone = dict(changes or {}), tuple(without)
    kept = [(name, left.pop(name, value)) for name, value in headers if not (gone and name.startswith(gone))]
    return (*kept, *left.items())


def first(headers: Headers, *names: str) -> Headers:
    """The headers with these first, in this order."""
    known = dict(headers)
    return (*((name, known[name]) for name in names), *(pair for pair in headers if pair[0] not in names))


def written(body: Mapping[str, Any], **options: Any) -> bytes:
    """A body as SDKs write it today: compact, letters as they are."""
    return json.dumps(body, **{"ensure_ascii": False, "separators": (",", ":"), **options}).encode()


def sent(
    headers: Headers, body: Mapping[str, Any] | bytes = CHAT, *, at: int = START, path: str = "", http: str = "1.1",
    account: str = "a", org: str = "", connection: str = "c", peer: str = "203.0.113.9", using: Registry | None = None,
    age: int | None = None,
) -> Facts:  # fmt: skip
    """The facts of one request. path: if left out, that of the protocol that the headers speak. age: of the account (µs)."""
    raw = body if isinstance(body, bytes) else written(body)
    path = path or ("/v1/messages" if any(name == "anthropic-version" for name, _ in headers) else "/v1/chat/completions")
    low = tuple((name.lower(), value) for name, value in headers)
    head = Head("POST", path, http_version=http, headers=low, peer=peer, connection=connection)
    known = {"id": account, "org": org or account, **({"age": age} if age is not None else {})}
    facts = Intake(using or registry(), KEY).facts(head, Body(raw=raw), at, known)
    assert facts.cause is None, facts.detail
    return facts


def view(facts: Facts, using: Registry | None = None) -> View:
    return View(facts, (using or registry()).signals)


def signal(name: str, facts: Facts, using: Registry | None = None) -> Any:
    return view(facts, using).get(name)


@cache
def policy(workloads: str = "", pack: str = "reseller") -> Any:
    """A shipped pack, with workloads if any."""
    if not workloads:
        return load_policy([RULES / f"{pack}.yaml"], registry().signals)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workloads.yaml"
        file.write_text(workloads)
        return load_policy([RULES / f"{pack}.yaml", file], registry().signals)


def judged(
    requests: Sequence[Facts],
    answers: Sequence[Answer] = (),
    workloads: str = "",
    using: Registry | None = None,
    pack: str = "reseller",
) -> list[Replayed]:
    """The requests, judged in order by the real engine and the shipped pack."""
    given = [*answers, *(Answer(status=200) for _ in requests[len(answers) :])]
    exchanges = [
        Exchange(Place("requests", number), f"{number:032x}", facts, answer)
        for number, (facts, answer) in enumerate(zip(requests, given, strict=True))
    ]
    return list(replay(exchanges, policy(workloads, pack), (using or registry()).signals, Mode.ENFORCE))


def matched(requests: Sequence[Facts], answers: Sequence[Answer] = (), **how: Any) -> set[str]:
    """The rules that matched any of the requests, without the name of the reseller pack."""
    ends = [end for played in judged(requests, answers, **how) for end in played.judgement.outcome.decision.matches()]
    return {end.rule.removeprefix("reseller.") for end in ends}
