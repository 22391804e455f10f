"""What software sent this: what it claims, and what the wire shows, kept apart; `client.*` signatures.

Header values are cheap to copy and decay within weeks; what a runtime does by itself (header order, JSON serialisation)
outlasts them. Nothing here judges: `reseller` compares the two, and rules count. Values that a caller chooses freely are
bounded or hashed before anything counts by them.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from gateway.facts import Facts
from gateway.plugins.edge import Edge
from gateway.plugins.wire import MOST_NAMES, Runtime, is_sorted, json_style, key_order, serialiser, transport
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import INT, STRING, Missing, set_of

NO_AGENT: Final = Missing("no User-Agent was sent")
NO_BODY: Final = Missing("no JSON body")
NOT_RAW: Final = Missing("the body's raw bytes are not known")
NOT_SHOWN: Final = Missing("nothing shows it")
NO_SESSION: Final = Missing("none named")
LONGEST: Final = 64
SHORTEST_SESSION: Final = 16
MOST_USER_ID: Final = 1_024
MOST_RETRIES: Final = 1_000

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
_TUPLE: Final = ("lang", "package-version", "os", "arch", "runtime", "runtime-version", "timeout")
_SESSIONS: Final = (
    "x-claude-code-session-id",
    "x-session-id",
    "session-id",
    "session_id",
    "conversation-id",
    "conversation_id",
)
_DEVICE: Final = re.compile(r'"device_id"\s*:\s*"([^"\\]{8,128})"|\buser_([0-9a-f]{64})_account_')
_SESSION: Final = re.compile(r'"session_id"\s*:\s*"([^"\\]{16,128})"|_session_([0-9a-f-]{16,64})')


def claimed_runtime(facts: Facts) -> Runtime | None:
    """The runtime that SDK headers or User-Agent name."""
    engine = _ENGINES.get((facts.header("x-stainless-runtime") or "").lower())
    found = engine or _LANGUAGES.get((facts.header("x-stainless-lang") or "").lower())
    if found:
        return found
    agent = (facts.header("user-agent") or "")[:256]
    return next((name for name, seen in _RUNTIMES.items() if seen.search(agent)), None)


def part_of_user_id(pattern: re.Pattern[str], facts: Facts) -> str | None:
    """The part of the end user's id that a pattern names; agents write device and session into it."""
    user = facts.call.end_user if facts.call else None
    found = pattern.search(user[:MOST_USER_ID]) if user else None
    return (found[1] or found[2]) if found else None


def _family(view: View) -> object:
    agent = view.facts.header("user-agent")
    if not agent:
        return NO_AGENT
    found = _AGENT.match(agent)
    return found[1].strip().lower() if found else agent[:40].lower()


def _claimed_version(view: View) -> object:
    agent = view.facts.header("user-agent")
    if not agent:
        return NO_AGENT
    found = _VERSION.search(agent[:256])
    return found[0] if found else Missing("the User-Agent names no version")


def _json_style(view: View) -> object:
    facts = view.facts
    if not facts.keys:
        return NO_BODY
    if facts.body is None:
        return frozenset({"keys-sorted"}) if is_sorted(facts.keys) else NOT_RAW
    return frozenset(map(str, json_style(facts.body, facts.keys)))


def _body_shape(view: View) -> object:
    keys = view.facts.keys
    return digest("\n".join(key[:LONGEST] for key in keys[:MOST_NAMES])) if keys else NO_BODY


def _key_order(view: View) -> object:
    return key_order(view.facts.keys) or Missing("the body lacks what is compared")


def _sdk_tuple(view: View) -> object:
    sent = view.facts.first
    told = [sent.get(f"x-stainless-{name}", "")[:LONGEST] for name in _TUPLE]
    if not any(told):
        return Missing("no SDK headers")
    return digest("\n".join([*told, sent.get("user-agent", "")[:256]]))


def _retry(view: View) -> object:
    said = view.facts.header("x-stainless-retry-count") or ""
    if said.isascii() and said.isdigit() and len(said) <= 4:
        return min(int(said), MOST_RETRIES)
    return Missing("the SDK does not count its retries")


def digest(text: str, key: bytes = b"") -> str:
    """A short hash of a text, keyed where the text is a caller's own."""
    return blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=8).hexdigest()


def register(registry: Registry, settings: Settings) -> None:
    edge = Edge.of(settings)
    hash_key: bytes = settings.get("identity", {}).get("hash_key", b"")[:64]

    def ja4(view: View) -> object:
        return edge.ja4(view.facts)

    def wire_runtime(view: View) -> object:
        style = view.get("client.json_style")
        written = serialiser(style) if isinstance(style, frozenset) else None
        sent = None if edge.between(view.facts) else transport(view.facts.headers)
        if written and sent and written is not sent:
            return Missing("header order and serialiser show two runtimes")
        found = written or sent
        return str(found) if found else NOT_SHOWN

    def runtime(view: View) -> object:
        claimed = claimed_runtime(view.facts)
        return str(claimed) if claimed else NOT_SHOWN

    def fingerprint(view: View) -> object:
        sent = view.facts.headers
        names = [name[:LONGEST] for name, _ in sent if name not in _VARYING and not name.startswith(_HOPS)][:MOST_NAMES]
        if not names:
            return Missing("no headers")
        seen = view.get("client.ja4")
        return digest("\n".join([*names, seen] if isinstance(seen, str) else names))

    def session(view: View) -> object:
        told = [value for name, value in view.facts.headers if name in _SESSIONS]
        told.append(part_of_user_id(_SESSION, view.facts) or "")
        named = next((text for value in told if len(text := value.strip()) >= SHORTEST_SESSION), "")
        return digest(named[:256], hash_key) if named else NO_SESSION  # strangers share a `1` or a `default`

    def device(view: View) -> object:
        named = part_of_user_id(_DEVICE, view.facts)
        return digest(named, hash_key) if named else NO_SESSION

    registry.add_signals((
        *_SIGNALS,
        Signal("client.runtime", STRING, "what runs the client, as SDK headers or User-Agent claim: " + ", ".join(Runtime),
               runtime, missing="nothing claims it", confounder="anything can name itself anything"),
        Signal("client.wire_runtime", STRING, "what runs the client, as header order and serialiser show", wire_runtime,
               Cost.BODY, "nothing shows it, or two things do", "a proxy of the caller's own that writes requests anew"),
        Signal("client.ja4", STRING, "JA4 of the caller's TLS, as a trusted edge passes it", ja4, missing="no edge passes it",
               confounder="everybody with the same TLS library; inspecting company proxies", source="FoxIO JA4"),
        Signal("client.fingerprint", STRING, "header names in order, without those that vary per request or hop, and JA4",
               fingerprint, missing="no headers", confounder="everybody who uses the same SDK version",
               recorded=True),
        Signal("client.session", STRING, "keyed hash of the session that headers or the end user's id name", session, Cost.BODY,
               f"none named with {SHORTEST_SESSION} characters or more", "a program that names all its work one session"),
        Signal("client.device", STRING, "keyed hash of the device that the end user's id names", device, Cost.BODY,
               "none named", "containers, which are a new device each; an image with one device"),
    ))  # fmt: skip


_SIGNALS: Final = (
    Signal("client.family", STRING, "the software named in User-Agent, lower-cased", _family, missing="no User-Agent",
           confounder="anything can name itself anything"),
    Signal("client.claimed_version", STRING, "the version named in User-Agent", _claimed_version, missing="none named"),
    Signal("client.json_style", set_of(STRING),
           "how the body was serialised: spaced, compact, mixed-separators, keys-sorted, content-before-role, html-escapes, "
           "ascii-escapes, upper-escapes, slash-escapes, raw-utf8, whole-floats, trailing-newline",
           _json_style, Cost.BODY, "no JSON body, or its raw bytes are not known"),
    Signal("client.body_shape", STRING, "hash of the body's top-level keys in order", _body_shape, Cost.BODY, "no JSON body",
           "frameworks whose keys follow from the options used"),
    Signal("client.key_order", STRING,
           "stream-first or stream-later than the conversation, or model-first or model-later where the body does not stream; "
           "one program shows two of the four at most",
           _key_order, Cost.BODY, "the body lacks what is compared", "everybody: it tells programs apart, it accuses nobody"),
    Signal("client.sdk_tuple", STRING, "hash of SDK version, system, runtime and User-Agent as the SDK states them", _sdk_tuple,
           missing="no SDK headers", confounder="one company image on many machines"),
    Signal("client.retry", INT, "which retry the SDK says this is; 0 for the first try", _retry,
           missing="the SDK does not count its retries", confounder="clients told not to retry", least=0),
)  # fmt: skip
