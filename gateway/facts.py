"""What one exchange states, plus its time. Nothing here was looked up, but for what the account directory says of its key.

Facts are made once, at the door (`web.intake`) or from a record (`replay.sources`), and never change. Prompt text
and bodies are carried for the signals but never appear in a `repr`; credentials are carried only as keyed hashes.
Header names are lower-cased, their order is the wire's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

LONGEST_SAID: Final = 65_536


class Cause(StrEnum):
    """Why an exchange is in trouble before any rule looks at it. Each has a declared answer (`failing`)."""

    ROUTE_UNRECOGNISED = "route-unrecognised"
    WEBSOCKET = "websocket"
    MEDIA_TYPE = "media-type"
    BODY_ENCODING = "body-encoding"
    BODY_TOO_LARGE = "body-too-large"
    BODY_BEYOND_WINDOW = "body-beyond-window"
    BODY_MALFORMED = "body-malformed"
    CREDENTIAL_MISSING = "credential-missing"
    CREDENTIAL_UNKNOWN = "credential-unknown"
    CREDENTIAL_AMBIGUOUS = "credential-ambiguous"
    ACCOUNT_UNREADABLE = "account-unreadable"
    DIRECTORY_UNAVAILABLE = "directory-unavailable"
    GEO_UNAVAILABLE = "geo-unavailable"
    OTLP_UNAVAILABLE = "otlp-unavailable"
    RECORDS_UNAVAILABLE = "records-unavailable"


class Freshness(StrEnum):
    """How current an answer of the account directory is."""

    FRESH = "fresh"
    STALE = "stale"
    UNAVAILABLE = "unavailable"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What the account directory said of a credential, once, before the exchange was judged.

    entry: the account's values; None where it lists no such credential, where it is unavailable and nobody knows, or where what
    it says of the account is wrong (`unreadable`).
    """

    entry: Mapping[str, object] | None
    freshness: Freshness = Freshness.FRESH


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `kinds` names the parts it was made of: text, image, tool_use, tool_result, …"""

    role: str
    text: str = field(repr=False)
    kinds: frozenset[str] = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class Call:
    """A model call in one shape for every protocol.

    `operation` is OpenTelemetry's gen_ai.operation.name (chat, text_completion, embeddings), or count_tokens, moderation,
    image, speech, transcription, batch, file, generic; `parameters`
    holds the scalar request parameters by the protocol's own names; `tools` the declared tool names in order, `schemas` the
    names of their parameters; `max_tokens` the most output tokens asked for, whatever the route calls them; `asks_for` what
    else a rule can take: logprobs, reasoning; `presented` what an upstream once issued and the call hands back (signatures of
    reasoning, encrypted reasoning items, the id of an earlier answer), oldest first; `entries` how many calls a batch holds,
    `models` the models they name (at most 256), where `model` is the one that all of them do.
    """

    operation: str
    model: str | None = None
    stream: bool = False
    parameters: Mapping[str, object] = field(default_factory=dict)
    system: str = field(default="", repr=False)
    messages: tuple[Message, ...] = ()
    tools: tuple[str, ...] = ()
    schemas: tuple[tuple[str, ...], ...] = ()
    end_user: str | None = field(default=None, repr=False)
    max_tokens: int | None = None
    asks_for: frozenset[str] = frozenset()
    presented: tuple[str, ...] = field(default=(), repr=False)
    entries: int | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """One exchange as it was asked.

    at: microseconds since 1970, handed in by the host or the record. peer: address of the connection's other end;
    connection: an id that is the same for every exchange on one connection; scheme: http or https, as it came on it.
    credential: keyed hash of the presented key. template: the route's path pattern. size: bytes of the body as sent. seen: how
    many of them were looked at, None for all. cause: why it could not be read, if so.
    credentials: how many different keys were presented. looked_up: what the account directory said of the credential; one
    answer for the whole exchange, None where none was asked.
    account: `account.*` values the source already states. recorded: signal values of an audit record (they replace computing).
    whole: whether those are all there were, as in a rule test; else a signal may have had a value that nobody recorded.
    """

    at: int
    method: str = "POST"
    path: str = "/"
    http_version: str = "1.1"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    peer: str | None = None
    connection: str | None = None
    credential: str | None = None
    protocol: str | None = None
    route: str | None = None
    template: str | None = None
    size: int = 0
    body: bytes | None = field(default=None, repr=False)
    keys: tuple[str, ...] = ()
    call: Call | None = None
    cause: Cause | None = None
    detail: str = ""
    account: Mapping[str, object] | None = None
    recorded: Mapping[str, object] | None = field(default=None, repr=False)
    credentials: int = 0
    looked_up: LookedUp | None = field(default=None, repr=False)
    seen: int | None = None
    scheme: str = "http"
    whole: bool = False
    _first: Mapping[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    def header(self, name: str) -> str | None:
        """The first value of a header by its lower-case name."""
        return (self._first or self.first).get(name)

    @property
    def first(self) -> Mapping[str, str]:
        """Each header's first value by its lower-case name. Made once: some twenty signals ask for a header."""
        found = self._first
        if found is None:
            found = dict(reversed(self.headers))
            object.__setattr__(self, "_first", found)
        return found

    def header_values(self, name: str) -> list[str]:
        """Every value of a header, in the order sent."""
        if len(self.first) == len(self.headers):  # none is sent twice
            return [self.first[name]] if name in self.first else []
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model call really took, in tokens; None where the upstream did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class End(StrEnum):
    """How an answer came to its end."""

    COMPLETE = "complete"
    REFUSED = "refused"
    CLIENT_GONE = "client-gone"
    UPSTREAM_CUT = "upstream-cut"
    UPSTREAM_FAILED = "upstream-failed"
    STOPPED = "stopped"  # by us, as the process was


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says, as far as it is captured. finish: why it ended, in the protocol's words; whole: all was read."""

    text: str = field(repr=False)
    finish: str = ""
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known once the exchange is over. Durations are microseconds and differ from run to run.

    events: of an answer in events, how many went out. size: bytes of it that were passed on. said: its text, the first
    `LONGEST_SAID` characters of it, where a rule compares by it; hashed at settle time and never kept. issued: what it holds
    that a later call hands back (ids, signatures). recorded: values of signals known after the answer that an audit record
    holds (they replace computing). output: what it says where content is captured; None elsewhere, or where it was not read.
    """

    status: int | None = None
    usage: Usage = Usage()
    end: End = End.COMPLETE
    model: str | None = None
    first_byte: int | None = None
    duration: int | None = None
    events: int = 0
    size: int = 0
    said: str = field(default="", repr=False)
    issued: tuple[str, ...] = field(default=(), repr=False)
    recorded: Mapping[str, object] | None = field(default=None, repr=False)
    output: Said | None = field(default=None, repr=False)
