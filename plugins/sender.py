"""What header lines alone say of the software that sends them, worked out once for each set of lines.

A connection sends the same lines with every request, and so does every copy of one program, so what is found is remembered: by
the names in order, and by the values of the few headers that anything here looks at (`LOOKED_AT`). Credentials, ids, lengths
and addresses are none of them. What is remembered is bounded (`MOST` sets of at most `LONGEST` characters); whatever a caller
chooses freely is bounded or hashed before anything counts by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.plugins.keyed import digest
from gateway.plugins.wire import MOST_NAMES, Headers, Runtime, transport
from gateway.signals import View

MOST: Final = 1_024
LONGEST: Final = 4_096
LONGEST_NAME: Final = 64
LONGEST_AGENT: Final = 256

_AGENT: Final = re.compile(r"([A-Za-z][\w.+ -]{0,63}?)(?:/(?:[A-Z][A-Za-z]{1,15} )?v?(\d[\w.+-]*)|/(?=[A-Z])|\s|$)")
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_LANGUAGES: Final = {
    "python": Runtime.PYTHON, "js": Runtime.NODE, "go": Runtime.GO, "java": Runtime.JAVA, "kotlin": Runtime.JAVA,
    "ruby": Runtime.RUBY, "csharp": Runtime.DOTNET, "rust": Runtime.RUST, "php": Runtime.PHP,
}  # fmt: skip
_ENGINES: Final = {"node": Runtime.NODE, "bun": Runtime.BUN, "deno": Runtime.DENO}
_RUNTIMES: Final = {
    Runtime.BUN: re.compile(r"\bbun/", re.IGNORECASE),
    Runtime.DENO: re.compile(r"\bdeno/", re.IGNORECASE),
    Runtime.PYTHON: re.compile(r"python|aiohttp|httpx|urllib|litellm|dspy|^curl_cffi", re.IGNORECASE),
    Runtime.NODE: re.compile(r"node|axios|undici|/js |ai-sdk|claude-cli", re.IGNORECASE),
    Runtime.GO: re.compile(r"^go-http-client|^go/|\bgo-resty|/go ", re.IGNORECASE),
    Runtime.RUST: re.compile(r"reqwest|codex|\bhyper/", re.IGNORECASE),
    Runtime.JAVA: re.compile(r"okhttp|java|jetty|ktor|apache-httpclient", re.IGNORECASE),
    Runtime.DOTNET: re.compile(r"\.net\b|dotnet|restsharp|azsdk-net", re.IGNORECASE),
    Runtime.PHP: re.compile(r"guzzle|php", re.IGNORECASE),
    Runtime.RUBY: re.compile(r"\bruby|faraday", re.IGNORECASE),
    Runtime.CURL: re.compile(r"^curl/", re.IGNORECASE),
    Runtime.BROWSER: re.compile(r"^mozilla/5", re.IGNORECASE),
}
# what changes from request to request, or what every hop on the way writes anew
_VARYING: Final = frozenset({
    "baggage", "b3", "cdn-loop", "connection", "content-encoding", "content-length", "cookie", "date", "expect", "forwarded",
    "host", "idempotency-key", "if-match", "if-modified-since", "if-none-match", "keep-alive", "pragma", "proxy-authorization",
    "proxy-connection", "range", "referer", "sentry-trace", "te", "traceparent", "tracestate", "trailer", "transfer-encoding",
    "true-client-ip", "upgrade", "via", "x-client-ip", "x-client-request-id", "x-correlation-id", "x-real-ip", "x-request-id",
    "x-request-start", "x-stainless-helper", "x-stainless-helper-method", "x-stainless-poll-helper", "x-stainless-retry-count",
    "x-stainless-stream-helper",
})  # fmt: skip
_HOPS: Final = ("x-forwarded-", "x-envoy-", "x-amzn-", "x-b3-", "cf-", "cloudfront-", "x-azure-", "x-cloud-trace-", "x-vercel-")
_TUPLE: Final = tuple(
    f"x-stainless-{name}" for name in ("lang", "package-version", "os", "arch", "runtime", "runtime-version", "timeout")
)
LOOKED_AT: Final = frozenset({*_TUPLE, "user-agent", "accept", "accept-encoding", "sec-fetch-mode"})


class Sender(NamedTuple):
    """What is told of whoever sends such lines; None where nothing is.

    family, version: what User-Agent names. claimed: the runtime that SDK headers or User-Agent name; shown: the one whose HTTP
    library writes such lines. names: the headers in order, without those that vary, a line each; fingerprint: their hash. sdk:
    what the SDK states of itself, hashed.
    """

    family: str | None
    version: str | None
    claimed: str | None
    shown: Runtime | None
    names: str
    fingerprint: str | None
    sdk: str | None


class Senders:
    """Senders by their lines."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | tuple[str, str], ...], Sender] = {}

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Forget all of them."""
        self._known.clear()

    def of(self, view: View) -> Sender:
        """The sender of an exchange; for `View.once`."""
        headers = view.facts.headers
        lines = tuple([line if line[0] in LOOKED_AT else line[0] for line in headers])
        found = self._known.get(lines)
        if found is None:
            found = _sender(headers, view.facts.first)
            if sum([len(name) + len(value) * (name in LOOKED_AT) for name, value in headers]) <= LONGEST:
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[lines] = found
        return found


def _sender(headers: Headers, first: Mapping[str, str]) -> Sender:
    agent = first.get("user-agent", "")
    names = [name[:LONGEST_NAME] for name, _ in headers if name not in _VARYING and not name.startswith(_HOPS)]
    listed = "\n".join(names[:MOST_NAMES])
    told = [] if first.keys().isdisjoint(_TUPLE) else [first.get(name, "")[:LONGEST_NAME] for name in _TUPLE]
    family, version = named(agent)
    return Sender(
        family=family,
        version=version,
        claimed=_claimed(first, agent[:LONGEST_AGENT]),
        shown=transport(headers),
        names=listed,
        fingerprint=digest(listed) if listed else None,
        sdk=digest("\n".join([*told, agent[:LONGEST_AGENT]])) if any(told) else None,
    )


def named(agent: str) -> tuple[str | None, str | None]:
    """The software that a User-Agent names, and its version."""
    version = _VERSION.search(agent[:LONGEST_AGENT])
    return _family(agent), version[0] if version else None


def _family(agent: str) -> str | None:
    if not agent:
        return None
    found = _AGENT.match(agent)
    return found[1].strip().lower() if found else agent[:40].lower()


def _claimed(first: Mapping[str, str], agent: str) -> str | None:
    engine = _ENGINES.get(first.get("x-stainless-runtime", "").lower())
    found = engine or _LANGUAGES.get(first.get("x-stainless-lang", "").lower())
    if found is None:
        found = next((name for name, seen in _RUNTIMES.items() if seen.search(agent)), None)
    return str(found) if found else None
