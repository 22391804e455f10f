"""A tap on answers: finds the usage a model call really had while the bytes pass by, holding back none of them.

`Strip` is the one thing that may hold bytes back: those of an event that has not ended yet, and only in streams of which we
asked more than the caller did; it takes our part out again and touches nothing else.

JSON answers are gathered up to a bound and read at the end (beyond it only their end is kept, where the usage of long
answers stands); event streams are cut into events as they pass, however the
chunks fall, and only events that speak of usage (where it is listened for, of what is issued) are parsed. Compressed answers
are read through a decompressor of the tap's own. Text is listened to in JSON answers alone, and only while the
exchange lasts; where a route's content is captured, in streams too.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from typing import Any, Final

import msgspec

from gateway.facts import LONGEST_SAID, Facts, Said, Usage
from gateway.incidents import report
from gateway.protocol import Dialect, Hearing
from gateway.web.hearing import Gathered

MOST_JSON: Final = 2 * 2**20
MOST_EVENT: Final = 2**20
END_KEPT: Final = 2**16
_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_LONGEST: Final = 4
# These bytes cannot stand inside a JSON string, where the quotes would be escaped: they are a key.
_USAGE_KEY: Final = re.compile(rb'"(usage|usageMetadata)"\s*:\s*(?=\{)')
_USAGE: Final = b'"usage'
_SPEAKS: Final = re.compile(rb'"usage(?:Metadata)?"\s*+:\s*+(?!null)')
_ENDS: Final = (b"\n\n", b"\r\n\r\n")

# An event that holds a signature, an encrypted item, or begins an answer that can be gone on from.
_ISSUES: Final = (b"ignature", b"encrypted_content", b"redacted_thinking", b'"response.created"')  # also thoughtSignature
MOST_ISSUED: Final = 16
NOTHING: Final = Hearing()
_DECODER: Final = msgspec.json.Decoder()
_told: Final[set[str]] = set()

_MODEL_KEYS: Final = ("model", "modelVersion")


class Tap:
    """Watches one answer. `usage` and `model`, and what else is listened for, are filled as they become known; `events` counts
    those that passed.

    asked: whether it was us who asked for the usage of a stream (`asking`), so that it must not reach the caller, and the tap
    `strips` it.
    """

    said = ""
    issued: tuple[str, ...] = ()
    usage = Usage()
    events = 0
    model: str | None = None
    _searched = 0
    _lost = False

    def __init__(
        self, dialect: Dialect, content_type: str, encoding: str, hearing: Hearing = NOTHING, asked: bool = False
    ) -> None:
        self._hearing = hearing
        self._dialect = dialect
        self._events = content_type.startswith("text/event-stream")
        self._readable = self._events or content_type.startswith("application/json")
        self._inflate = zlib.decompressobj(_WBITS[encoding]) if encoding in _WBITS else None
        if encoding not in _WBITS and encoding not in ("", "identity"):
            self._readable = False
        self._plain = self._events and self._readable and self._inflate is None
        self._skips = self._plain
        self._strip = Strip(dialect) if asked and self._plain else None
        self.strips = self._strip is not None
        self._held = bytearray()
        self._gathered = Gathered(hearing.content) if hearing.content and self._readable else None

    @property
    def output(self) -> Said | None:
        """What the answer said, where that is captured; None where it was not read."""
        unread = not self._readable or (self._lost and not self._events)
        if self._gathered is None or (unread and not self._gathered.began):
            return None
        self._gathered.whole = self._gathered.whole and not unread
        return self._gathered.said()

    def known(self) -> dict[str, Any]:
        """What the answer tells that is over, by the names of `Answer`."""
        self.close()
        names = ("usage", "model", "events", "said", "issued", "output")
        return {name: getattr(self, name) for name in names}

    @property
    def between_events(self) -> bool:
        """Whether an event of ours would be understood here: a plain event stream, no event of which stands half done."""
        return self._plain and not self._lost and not self._held.strip()

    def feed(self, chunk: bytes) -> None:
        """Look at some bytes of the answer."""
        if self._skips and self.model and not self._held and chunk.endswith(_ENDS):
            spoken = chunk.find(_USAGE)
            told = spoken >= 0 and _SPEAKS.search(chunk, spoken) is not None
            if not told and not self._gathered and not (self._hearing.issued and _issues(chunk)):
                self.events += chunk.count(b"\n\n") or 1
                return  # whole events that say nothing of usage: nearly every piece of nearly every stream
        if self._readable:
            try:
                self._look_at(chunk)
            except Exception as error:  # whatever a dialect does, the bytes pass
                self._give_up(error)

    def _look_at(self, chunk: bytes) -> None:
        if self._inflate is not None:
            try:
                chunk = self._inflate.decompress(chunk, MOST_JSON)
                self._readable = not self._inflate.unconsumed_tail
            except zlib.error:
                self._readable = False
        self._held += chunk
        if self._events:
            self._cut()
        elif len(self._held) > MOST_JSON:
            del self._held[:-END_KEPT]
            self._lost = True

    def passing(self, chunk: bytes, last: bool) -> bytes:
        """Look at some bytes of the answer, the last ones or not; returns those that go on now."""
        self.feed(chunk)
        return chunk if self._strip is None else self._strip.feed(chunk) + (self._strip.close() if last else b"")

    def close(self) -> None:
        """The answer is over: read what was gathered."""
        try:
            self._read_rest()
        except Exception as error:  # as in `feed`
            self._give_up(error)
        self._held.clear()

    def _read_rest(self) -> None:
        if self._readable and self._held:
            data = bytes(self._held)
            if self._events:
                self._event(data)
            elif self._lost:
                self._end_of_document(data)
            else:
                self._document(data)

    def _give_up(self, error: Exception) -> None:
        """A dialect broke, which may be third-party code: what it cannot read is unknown, and the answer goes on."""
        self._readable = self._skips = False
        self._lost = True
        self._held.clear()
        told = f"{self._dialect.name}: {type(error).__name__}"
        if told not in _told:  # as many as there are protocols and classes of errors
            _told.add(told)
            report("usage.not-read", f"usage was not read, as the protocol {told} broke; said once", error=error)

    def _cut(self) -> None:
        start = 0
        for end, after in [found.span() for found in _BLANK_LINE.finditer(self._held, self._searched)]:
            self.events += 1
            if not self._lost:
                self._event(bytes(self._held[start:end]))
            self._lost, start = False, after
        del self._held[:start]
        if len(self._held) > MOST_EVENT:  # the rest of this event is not worth the memory
            del self._held[:-_LONGEST]
            self._lost = True
            if self._gathered:
                self._gathered.whole = False
        self._searched = max(0, len(self._held) - _LONGEST + 1)

    def _event(self, event: bytes) -> None:
        told = (_USAGE in event and _SPEAKS.search(event)) or (not self.model and b'"model' in event)
        if not told and not self._gathered and not (self._hearing.issued and _issues(event)):
            return
        data = b"\n".join(line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:"))
        if data.startswith(b"{"):
            self._document(data)

    def _end_of_document(self, data: bytes) -> None:
        keys = list(_USAGE_KEY.finditer(data))
        if not keys:
            return
        with contextlib.suppress(ValueError, RecursionError):
            used, _ = json.JSONDecoder().raw_decode(data[keys[-1].end() :].decode("utf-8", "replace"))
            self.usage = self._dialect.usage({keys[-1][1].decode(): used}, self.usage)

    def _document(self, data: bytes) -> None:
        try:
            document = _DECODER.decode(data)
        except (ValueError, RecursionError):  # what the fast reader does not take: lone surrogates, numbers beyond floats
            try:
                document = json.loads(data)
            except (ValueError, RecursionError):
                return
        for part in document if isinstance(document, list) else [document]:  # some streams are one array of answers
            if isinstance(part, dict):
                self._part(part)

    def _part(self, document: dict[str, Any]) -> None:
        for holder in (document, document.get("message"), document.get("response")):
            if isinstance(holder, dict):
                self.model = next((holder[key] for key in _MODEL_KEYS if isinstance(holder.get(key), str)), self.model)
        self.usage = self._dialect.usage(document, self.usage)
        if self._hearing.issued or self._gathered or (self._hearing.text and not self._events):
            self._hear(document)

    def _hear(self, document: dict[str, Any]) -> None:
        heard = self._dialect.heard(document)
        if self._hearing.issued and heard.issued:
            self.issued = tuple(dict.fromkeys((*self.issued, *heard.issued)))[:MOST_ISSUED]
        if self._gathered:
            self._gathered.add(heard)
        if self._hearing.text and not self._events:
            self.said = heard.text[:LONGEST_SAID]


def _issues(data: bytes) -> bool:
    """Whether it may hold what a later call hands back: four looks of a few ns are quicker than one at any of four."""
    one, two, three, four = _ISSUES
    return one in data or two in data or three in data or four in data


def asking(dialect: Dialect | None, facts: Facts, body: bytes | None = None) -> bytes | None:
    """The body (as it was read, unless given) that has a stream say its usage too; None where that is not ours to ask for."""
    sent = facts.body if body is None else body
    if dialect is None or facts.call is None or not facts.call.stream or facts.cause is not None or sent is None:
        return None
    return dialect.ask_for_usage(facts.route or "", facts.keys, sent)


class Strip:
    """Takes out of an event stream what was sent only because we asked for usage (`Dialect.without_usage`).

    `feed` gives the bytes to send on. Whole events go on at once; the bytes of an event that has not ended wait for its end,
    up to MOST_EVENT of them. However the bytes are split, the same bytes come out.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._without = dialect.without_usage
        self._held = bytearray()
        self._searched = 0
        self._passing = False

    def feed(self, chunk: bytes) -> bytes:
        """Some bytes of the stream; returns those that may go on."""
        if not self._held and not self._passing and chunk.endswith(_ENDS):
            if _USAGE not in chunk:
                return chunk
            if chunk.find(b"\n\n") == len(chunk) - 2 and b"\r" not in chunk:  # one event, as most pieces are
                return self._kept(chunk)
        self._held += chunk
        out, start = bytearray(), 0
        for found in _BLANK_LINE.finditer(self._held, self._searched):
            out += self._kept(bytes(self._held[start : found.end()]))
            self._passing, start = False, found.end()
        del self._held[:start]
        if len(self._held) > MOST_EVENT:  # an event of that size is no usage, and too much to keep
            out += self._held[:-_LONGEST]
            del self._held[:-_LONGEST]
            self._passing = True
        self._searched = max(0, len(self._held) - _LONGEST + 1)
        return bytes(out)

    def close(self) -> bytes:
        """The stream is over: what is left of an event that did not end goes on as it is, unless it is ours."""
        rest = self._kept(bytes(self._held))
        self._held.clear()
        return rest

    def _kept(self, event: bytes) -> bytes:
        if self._passing or _USAGE not in event:
            return event
        bare = event.lstrip(b"\r\n")  # empty lines before it stay, whether they came with it or with the one before
        try:
            return event[: len(event) - len(bare)] + self._without(bare)
        except Exception:  # as above; the caller sees what was asked for in its name, which does no harm
            return event
