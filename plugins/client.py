"""What software sent this: what it claims, and what the wire shows, kept apart; `client.*` signatures.

Header values are cheap to copy and decay within weeks; what a runtime does by itself (header order, JSON serialisation)
outlasts them. Nothing here judges: `reseller` compares the two, and rules count. Values that a caller chooses freely are
bounded or hashed before anything counts by them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gateway.errors import NotRecordedError
from gateway.facts import Facts
from gateway.plugins.edge import Edge
from gateway.plugins.keyed import digest, key_of
from gateway.plugins.sender import Sender, Senders, named
from gateway.plugins.wire import MOST_NAMES, Runtime, is_sorted, json_style, key_order, serialiser
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import INT, STRING, Missing, set_of

NO_AGENT: Final = Missing("no User-Agent was sent")
NO_BODY: Final = Missing("no JSON body")
NOT_RAW: Final = Missing("the body's raw bytes are not known")
NOT_SHOWN: Final = Missing("nothing shows it")
NO_SESSION: Final = Missing("none named")
NO_VERSION: Final = Missing("the User-Agent names no version")
NO_SDK: Final = Missing("no SDK headers")
NO_HEADERS: Final = Missing("no headers")
NO_RETRIES: Final = Missing("the SDK does not count its retries")
NOT_COMPARED: Final = Missing("the body lacks what is compared")
TWO_SHOWN: Final = Missing("header order and serialiser show two runtimes")
LONGEST: Final = 64
SHORTEST_SESSION: Final = 16
MOST_USER_ID: Final = 1_024
MOST_RETRIES: Final = 1_000

_SESSIONS: Final = frozenset({
    "x-claude-code-session-id", "x-session-id", "session-id", "session_id", "conversation-id", "conversation_id",
})  # fmt: skip
_DEVICE: Final = re.compile(r'"device_id"\s*:\s*"([^"\\]{8,128})"|\buser_([0-9a-f]{64})_account_')
_SESSION: Final = re.compile(r'"session_id"\s*:\s*"([^"\\]{16,128})"|_session_([0-9a-f-]{16,64})')


def part_of_user_id(pattern: re.Pattern[str], facts: Facts) -> str | None:
    """The part of the end user's id that a pattern names; agents write device and session into it."""
    user = facts.call.end_user if facts.call else None
    found = pattern.search(user[:MOST_USER_ID]) if user else None
    return (found[1] or found[2]) if found else None


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
    return key_order(view.facts.keys) or NOT_COMPARED


def _retry(view: View) -> object:
    said = view.facts.header("x-stainless-retry-count") or ""
    if said.isascii() and said.isdigit() and len(said) <= 4:
        return min(int(said), MOST_RETRIES)
    return NO_RETRIES


def _named(sender: Callable[[View], Sender]) -> tuple[Signal, ...]:
    """What User-Agent says."""

    def agent(view: View) -> tuple[str | None, str | None]:
        try:
            found = view.once(sender)
        except NotRecordedError:  # a log that has this header and not the others
            return named(view.facts.header("user-agent") or "")
        return found.family, found.version

    def family(view: View) -> object:
        return agent(view)[0] or NO_AGENT

    def claimed_version(view: View) -> object:
        return agent(view)[1] or (NO_VERSION if view.facts.header("user-agent") else NO_AGENT)

    return (
        Signal("client.family", STRING, "the software named in User-Agent, lower-cased", family, missing="no User-Agent",
               confounder="anything can name itself anything"),
        Signal("client.claimed_version", STRING, "the version named in User-Agent", claimed_version, missing="none named"),
    )  # fmt: skip


def _shown(sender: Callable[[View], Sender], edge: Edge) -> tuple[Signal, ...]:
    """What SDK headers, the order of headers and the edge say, beside what the serialiser shows."""

    def sdk_tuple(view: View) -> object:
        return view.once(sender).sdk or NO_SDK

    def runtime(view: View) -> object:
        return view.once(sender).claimed or NOT_SHOWN

    def wire_runtime(view: View) -> object:
        style = view.get("client.json_style")
        written = serialiser(style) if isinstance(style, frozenset) else None
        sent = None if edge.between(view.facts) else view.once(sender).shown
        if written and sent and written is not sent:
            return TWO_SHOWN
        found = written or sent
        return str(found) if found else NOT_SHOWN

    def ja4(view: View) -> object:
        return edge.ja4(view.facts)

    def fingerprint(view: View) -> object:
        found, seen = view.once(sender), view.get("client.ja4")
        return (digest(f"{found.names}\n{seen}") if found.names and isinstance(seen, str) else found.fingerprint) or NO_HEADERS

    return (
        Signal("client.sdk_tuple", STRING, "hash of SDK version, system, runtime and User-Agent as the SDK states them",
               sdk_tuple, missing="no SDK headers", confounder="one company image on many machines"),
        Signal("client.retry", INT, "which retry the SDK says this is; 0 for the first try", _retry,
               missing="the SDK does not count its retries", confounder="clients told not to retry", least=0),
        Signal("client.runtime", STRING, "what runs the client, as SDK headers or User-Agent claim: " + ", ".join(Runtime),
               runtime, missing="nothing claims it", confounder="anything can name itself anything"),
        Signal("client.wire_runtime", STRING, "what runs the client, as header order and serialiser show", wire_runtime,
               Cost.BODY, "nothing shows it, or two things do", "a proxy of the caller's own that writes requests anew"),
        Signal("client.ja4", STRING, "JA4 of the caller's TLS, as a trusted edge passes it", ja4, missing="no edge passes it",
               confounder="everybody with the same TLS library; inspecting company proxies", source="FoxIO JA4"),
        Signal("client.fingerprint", STRING, "header names in order, without those that vary per request or hop, and JA4",
               fingerprint, missing="no headers", confounder="everybody who uses the same SDK version",
               recorded=True),
    )  # fmt: skip


def _told(key: bytes) -> tuple[Signal, ...]:
    """What agents name beside the call."""

    def session(view: View) -> object:
        facts = view.facts
        told = [] if _SESSIONS.isdisjoint(facts.first) else [value for name, value in facts.headers if name in _SESSIONS]
        told.append(part_of_user_id(_SESSION, facts) or "")
        named = next((text for value in told if len(text := value.strip()) >= SHORTEST_SESSION), "")
        return digest(named[:256], key) if named else NO_SESSION  # strangers share a `1` or a `default`

    def device(view: View) -> object:
        named = part_of_user_id(_DEVICE, view.facts)
        return digest(named, key) if named else NO_SESSION

    return (
        Signal("client.session", STRING, "keyed hash of the session that headers or the end user's id name", session, Cost.BODY,
               f"none named with {SHORTEST_SESSION} characters or more", "a program that names all its work one session"),
        Signal("client.device", STRING, "keyed hash of the device that the end user's id names", device, Cost.BODY,
               "none named", "containers, which are a new device each; an image with one device"),
    )  # fmt: skip


def register(registry: Registry, settings: Settings) -> None:
    key = key_of(settings)
    sender = Senders().of
    registry.add_signals((*_named(sender), *_WRITTEN, *_shown(sender, Edge.of(settings)), *_told(key)))


_WRITTEN: Final = (
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
)  # fmt: skip
