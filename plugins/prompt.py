"""What a prompt is built like, not what it is about: `prompt.*`.

The skeleton of a call is the frame of its system text (first words, heading lines) and of its last user message (last words
too), with everything that varies by nature (numbers, quotes, links, code, identifiers) masked. Texts are normalised first and
look-alike letters made one, so that disguises do not make two templates of one. Of each text the first three quarters and the
last quarter of 8,192 characters are looked at (hashes of what was said: 16,384, the middle of longer ones as it is).

The last user message is the last that says something itself: tool results travel as user messages in one protocol and as
messages of their own in the others, so a message that only hands results over counts where there is no other. List content
is joined to one text. Only hashes leave this module.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from gateway.facts import Call
from gateway.plugins.keyed import key_of, keyed
from gateway.plugins.kinship import close_kin, kin
from gateway.plugins.structure import NAMES, Shapes, looked_at
from gateway.plugins.wording import hashed, opening, skeleton, wording
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import BOOL, INT, STRING, Missing, set_of

NO_CALL: Final = Missing("no model call could be read")
NO_USER: Final = Missing("no user text")
NO_LABELS: Final = Missing("no label lines")
NO_TOOLS: Final = Missing("no tools declared")
NO_SYSTEM: Final = Missing("no system text")
SINGLE: Final = ("text_completion", "embeddings", "batch")
RESULT_ROLES: Final = ("user", "tool", "function")
MOST_TOOLS: Final = 1_024


class Frames:
    """Frames of system texts, by the hash of the text: one application sends the same one again and again.

    The hash is Python's own, under a key that is drawn when the process starts (`state.cells`): that two of `most` texts are
    taken for one has a chance of 5·10⁻¹³.
    """

    def __init__(self, seed: int, most: int = 4_096) -> None:
        self._seed, self._most = seed, most
        self._known: dict[int, tuple[str, str]] = {}

    def frame(self, text: str) -> tuple[str, str]:
        """A short id of the frame of a system text, and its kin."""
        place = hash(text)
        found = self._known.get(place)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            frame = opening(text)
            found = self._known[place] = keyed(frame.encode("utf-8", "replace"), b""), kin(frame, self._seed)
        return found


def first_said(call: Call) -> str | None:
    """The first text of the conversation's user that says something; None where there is none."""
    for message in call.messages:
        if message.role == "user" and message.text and not message.text.isspace():
            return message.text
    return None


def last_said(call: Call) -> str:
    """The last user text that is not only a tool's result; else the last result; empty where there is neither."""
    results = ""
    for message in reversed(call.messages):
        if message.role in RESULT_ROLES and message.text and not message.text.isspace():
            if message.role == "user" and message.kinds != {"tool_result"}:
                return message.text
            results = results or message.text
    return results


def said_first(view: View) -> str | None:
    """`first_said` of an exchange; for `View.once`."""
    call = view.facts.call
    return first_said(call) if call is not None else None


def said_last(view: View) -> str:
    """`last_said` of an exchange; for `View.once`."""
    call = view.facts.call
    return last_said(call) if call is not None else ""


def searched(view: View) -> bytes:
    """What of an exchange's call shapes and public sentences are looked for in; for `View.once`."""
    call = view.facts.call
    return looked_at(call, view.once(said_last)) if call is not None else b""


def _of_call(resolve: Callable[[Call], object]) -> Callable[[View], object]:
    def found(view: View) -> object:
        call = view.facts.call
        return resolve(call) if call is not None else NO_CALL

    return found


def _turns(call: Call) -> object:
    return min(1, len(call.messages)) if call.operation in SINGLE else len(call.messages)


def _has_tool_results(call: Call) -> object:
    return any("tool_result" in message.kinds for message in call.messages)


def _length(call: Call) -> object:
    return sum([len(message.text) for message in call.messages], len(call.system))


def _schemas(call: Call) -> str:
    """Tools by name with the names of their parameters, in one order whatever the order sent."""
    known = (*call.schemas, *[()] * len(call.tools))
    told = zip(call.tools[:MOST_TOOLS], known, strict=False)
    return "\n".join(sorted("\0".join((name, *sorted(parameters))) for name, parameters in told))


def _framed(key: bytes) -> tuple[Callable[[View], object], Callable[[View], object], Callable[[View], object]]:
    """The resolvers of `prompt.template`, `prompt.kin` and `prompt.close_kin`."""
    seed = int.from_bytes(blake2b(b"kin", key=key, digest_size=4).digest(), "big")
    frames = Frames(seed)

    def framed(view: View) -> tuple[str, str]:
        return frames.frame(view.facts.call.system if view.facts.call is not None else "")

    def of_frames(resolve: Callable[[tuple[str, str], str], str | None]) -> Callable[[View], object]:
        def found(view: View) -> object:
            call = view.facts.call
            said = view.once(said_last)
            if call is None or not said:
                return NO_CALL if call is None else NO_USER
            told = resolve(view.once(framed), skeleton(said))
            return NO_LABELS if told is None else keyed(f"{call.operation}\0{told}".encode("utf-8", "replace"), key)

        return found

    template = of_frames(lambda frame, said: f"{frame[0]}\0{said}")
    kinned = of_frames(lambda frame, said: f"{frame[1]}\0{kin(said, seed)}")

    def close(frame: tuple[str, str], said: str) -> str | None:
        told = close_kin(said, seed)
        return None if told is None else f"{frame[1]}\0{told}"

    return template, kinned, of_frames(close)


def register(registry: Registry, settings: Settings) -> None:
    key = key_of(settings)
    template, kinned, close = _framed(key)

    def slots(view: View) -> object:
        said = view.once(said_last)
        return hashed(said, key) if said else NO_CALL if view.facts.call is None else NO_USER

    def tools(call: Call) -> object:
        return keyed(wording(_schemas(call)), key) if call.tools else NO_TOOLS

    def system(call: Call) -> object:
        return hashed(call.system, key) if call.system else NO_SYSTEM

    shapes = Shapes()

    def structure(view: View) -> object:
        return shapes.of(view.once(searched)) if view.facts.call is not None else NO_CALL

    registry.add_signals((
        Signal("prompt.template", STRING, "keyed hash of the prompt's frame: the same for one template filled with many things",
               template, Cost.BODY, "no user text", "public templates shared by thousands; fixed product prompts"),
        Signal("prompt.kin", STRING, "keyed hash of one word of the system frame and one of the user's: frames share it as "
               "often as they are alike, so that small edits and many paraphrases keep it", kinned, Cost.BODY,
               "no user text", "short questions that begin alike",
               "A. Broder, On the resemblance and containment of documents, 1997"),
        Signal("prompt.close_kin", STRING, "keyed hash of a frame's label lines and of three words around them: frames share "
               "it only where they are nearly alike", close, Cost.BODY, "no user text, or one without label lines",
               "a framework's frame that many owners word a little differently",
               "A. Broder, On the resemblance and containment of documents, 1997"),
        Signal("prompt.slots", STRING, "keyed hash of what the user message says, for telling fillings apart", slots,
               Cost.BODY, "no user text", "none: it identifies, it does not accuse"),
        Signal("prompt.system", STRING, "keyed hash of the system text", _of_call(system), Cost.BODY, "no system text",
               "one application with many users"),
        Signal("prompt.structure", set_of(STRING), "what the prompt asks for by its build: " + ", ".join(NAMES),
               structure, Cost.BODY, "no model call",
               "each shape has honest users; only their share over many requests says anything"),
        Signal("prompt.turns", INT, "messages of the conversation so far; 1 where the route knows no conversations",
               _of_call(_turns), Cost.BODY, "no model call", least=0),
        Signal("prompt.has_tool_results", BOOL, "whether the conversation carries tool results", _of_call(_has_tool_results),
               Cost.BODY, "no model call"),
        Signal("prompt.tools", STRING, "keyed hash of the declared tools: names, and names of parameters, in any order",
               _of_call(tools), Cost.BODY, "no tools declared", "one published agent with many users"),
        Signal("prompt.length", INT, "characters of system text and messages", _of_call(_length), Cost.BODY, "no model call",
               least=0),
    ))  # fmt: skip
