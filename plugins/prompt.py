"""What a prompt is built like, not what it is about: `prompt.*`.

The skeleton of a call is its system text and the frame of its last user message (first and last words, heading lines),
with everything that varies by nature (numbers, quotes, links, code, identifiers) masked. Texts are normalised first, so
that invisible characters and spacing do not make two templates of one. Only hashes leave this module.

What a caller sends is normalised in linear time, and at most `LONGEST` (templates) or `MOST` characters of one text (its first
three quarters and its last) are; what lies between is hashed as it is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from gateway.facts import Call, Message
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.unicode import composed
from gateway.values import BOOL, INT, STRING, Missing

NO_CALL: Final = Missing("no model call could be read")
NO_USER: Final = Missing("no user text")
LONGEST: Final = 8_192
MOST: Final = 65_536
FIRST_WORDS: Final = 8
LAST_WORDS: Final = 6
MOST_HEADINGS: Final = 24
LONGEST_HEADING: Final = 80
EDGE: Final = 240

_LOCAL: Final = r"(?<![\w.+-])[\w.+-]++"  # looked for where a run of letters begins only, or a long run would cost its square
_VOLATILE: Final = re.compile(
    r"```.*?```|https?://\S+|" + _LOCAL + r"@[\w-]++\.[\w.]+|\"[^\"\n]{0,400}\"|'[^'\n]{2,400}'"
    r"|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b(?=\w*\d)[\w-]{12,}\b|\d+(?:[.,:]\d+)*",
    re.DOTALL,
)
_SPACE: Final = re.compile(r"[^\S\n]+")
_RUNS: Final = re.compile(r"  |[\t\r\f\v\xa0]")


@lru_cache(maxsize=8)  # several signals of one exchange look at the same text
def normalised(text: str) -> str:
    """What is invisible dropped, NFKC, case folded, runs of blanks made one. Linear in the length."""
    text = composed(text).casefold()
    return _SPACE.sub(" ", text) if _RUNS.search(text) else text


def capped(text: str, most: int = LONGEST) -> str:
    """The first three quarters and the last quarter of a text of more than so many characters."""
    if len(text) <= most:
        return text
    return text[: most * 3 // 4] + "\n" + text[-(most // 4) :]


def wording(text: str) -> bytes:
    """What a text says: normalised as far as that is done, the middle of a longer one as it is."""
    ends = normalised(capped(text, MOST)).encode("utf-8", "replace")
    if len(text) <= MOST:
        return ends
    return ends + b"\0" + text[MOST * 3 // 4 : -(MOST // 4)].encode("utf-8", "replace")


def masked(text: str) -> str:
    """The text with everything that varies by nature replaced by `_`."""
    return _VOLATILE.sub("_", text)


def skeleton(text: str) -> str:
    """The frame of one message: first words, heading lines in order, last words; volatile parts masked."""
    whole = normalised(capped(text))
    headings = [masked(line.strip()) for line in whole.split("\n") if _is_heading(line)][:MOST_HEADINGS]
    words = masked(whole[:EDGE]).split()[:FIRST_WORDS]
    long = len(whole) > 2 * EDGE or len(whole.split()) > FIRST_WORDS + LAST_WORDS
    ends = masked(whole[-EDGE:]).split()[-LAST_WORDS:] if long else []
    return " ".join(words) + "\n" + "\n".join(headings) + "\n" + " ".join(ends)


def _is_heading(line: str) -> bool:
    """A line that frames rather than fills: `# Title`, `Title:`, `<tag>`."""
    line = line.strip()
    return 1 < len(line) <= LONGEST_HEADING and (line[-1] == ":" or line[0] == "#" or (line[0] == "<" and line[-1] == ">"))


class Frames:
    """Masked system texts, by the hash of the text: one application sends the same one again and again."""

    def __init__(self, most: int = 4_096) -> None:
        self._most = most
        self._known: dict[bytes, str] = {}

    def frame(self, text: str) -> str:
        """A short id of the frame of a system text."""
        key = blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            frame = masked(normalised(capped(text)))
            found = self._known[key] = blake2b(frame.encode("utf-8", "replace"), digest_size=8).hexdigest()
        return found


def _last_user(call: Call) -> Message | None:
    return next((message for message in reversed(call.messages) if message.role == "user"), None)


def _turns(view: View) -> object:
    return len(view.facts.call.messages) if view.facts.call else NO_CALL


def _has_tool_results(view: View) -> object:
    call = view.facts.call
    return any("tool_result" in message.kinds for message in call.messages) if call else NO_CALL


def _length(view: View) -> object:
    call = view.facts.call
    return sum(len(message.text) for message in call.messages) + len(call.system) if call else NO_CALL


def register(registry: Registry, settings: Settings) -> None:
    hash_key: bytes = settings.get("identity", {}).get("hash_key", b"")[:64]

    def keyed(text: str) -> str:
        return blake2b(wording(text), key=hash_key, digest_size=8).hexdigest()

    def slots(view: View) -> object:
        call = view.facts.call
        user = _last_user(call) if call else None
        return keyed(user.text) if user and user.text.strip() else (NO_USER if call else NO_CALL)

    frames = Frames()

    def template(view: View) -> object:
        call = view.facts.call
        user = _last_user(call) if call else None
        if call is None or user is None or not user.text.strip():
            return NO_USER if call else NO_CALL
        told = f"{call.operation}\0{frames.frame(call.system)}\0{skeleton(user.text)}"
        return blake2b(told.encode("utf-8", "replace"), key=hash_key, digest_size=8).hexdigest()

    def tools(view: View) -> object:
        call = view.facts.call
        return keyed("\n".join(sorted(call.tools))) if call and call.tools else Missing("no tools declared")

    def system(view: View) -> object:
        call = view.facts.call
        return keyed(call.system) if call and call.system else Missing("no system text")

    registry.add_signals((
        Signal("prompt.template", STRING, "keyed hash of the prompt's frame: the same for one template filled with many things",
               template, Cost.BODY, "no user text", "public templates shared by thousands; fixed product prompts"),
        Signal("prompt.slots", STRING, "keyed hash of what the user message says, for telling fillings apart", slots,
               Cost.BODY, "no user text", "none: it identifies, it does not accuse"),
        Signal("prompt.system", STRING, "keyed hash of the system text", system, Cost.BODY, "no system text",
               "one application with many users"),
        Signal("prompt.turns", INT, "messages of the conversation so far", _turns, Cost.BODY, "no model call",
               least=0),
        Signal("prompt.has_tool_results", BOOL, "whether the conversation carries tool results", _has_tool_results,
               Cost.BODY, "no model call"),
        Signal("prompt.tools", STRING, "keyed hash of the declared tools' names", tools, Cost.BODY, "no tools declared"),
        Signal("prompt.length", INT, "characters of system text and messages", _length, Cost.BODY, "no model call",
               least=0),
    ))  # fmt: skip
