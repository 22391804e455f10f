"""How much of a prompt came back from earlier answers of the same account: `prompt.echo`.

A pipeline that has its answers judged, refined or grown into new tasks sends them in again as fresh prompts. Conversations
and agents send answers back as well, but as turns of the assistant; so only calls are looked at that hold no such turn and no
tool, name no end user and are not streamed, and of them only the newest user text. What the answers of just these calls said
is remembered as keyed hashes of runs of `RUN` words (`state.recalled` says how, for how long and with what error). No text is
kept, and nothing is hashed or remembered unless a rule speaks of the signal. An account that makes no such calls takes no
memory: the call itself decides.

Runs begin at words chosen by a checksum of the word and the next, about one in `EVERY`, so that text in another place, with
other line ends or marks, gives the same runs. What a prompt said itself is not remembered from its answer: a template that
answers repeat is no echo. Of a prompt and its answer the first `LONGEST_PROMPT` and `facts.LONGEST_SAID` characters are
looked at. Linear in their length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Final
from zlib import crc32

from gateway.facts import Call
from gateway.plugins.keyed import key_of
from gateway.plugins.prompt import last_said
from gateway.plugins.wording import plain
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Recollection, Signal, View
from gateway.values import FLOAT, SECOND, Missing

RUN: Final = 8
EVERY: Final = 8
FEWEST: Final = 2
LONGEST_PROMPT: Final = 16_384
LENGTH: Final = 24 * 3_600 * SECOND
ASSISTANT: Final = ("assistant", "model")
GENERATING: Final = ("chat", "text_completion")
NO_CALL: Final = Missing("no model call could be read")
IN_USE: Final = Missing("a conversation, tools, a stream or an end user: not compared with earlier answers")
TOO_SHORT: Final = Missing("too little said to compare it with earlier answers")
NOT_ASKED: Final = Missing("no rule compares prompts with earlier answers")
_FAILED: Final = 300
_MIX: Final = 0x9E3779B1
# Words as written with spaces; of writing without them, every character is one.
_WORD: Final = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")


def fresh(call: Call) -> bool:
    """Whether a call stands alone, as a program asks that wants an answer to work on."""
    alone = call.operation in GENERATING and not (call.stream or call.tools or call.end_user)
    return alone and not any(message.role in ASSISTANT or "tool_result" in message.kinds for message in call.messages)


def marks(text: str, key: bytes) -> list[int]:
    """Keyed hashes of chosen runs of a text's words, each once, in order."""
    words = _WORD.findall(plain(text))
    sums = [crc32(word.encode("utf-8", "replace")) for word in words]
    begins = [place for place, (one, two) in enumerate(pairwise(sums)) if _chosen(one, two)]
    runs = dict.fromkeys(" ".join(words[place : place + RUN]) for place in begins if place + RUN <= len(words))
    return [_mark(run, key) for run in runs]


def _chosen(one: int, two: int) -> bool:
    return ((one ^ two * _MIX) * _MIX >> 16) % EVERY == 0


def _mark(run: str, key: bytes) -> int:
    return int.from_bytes(blake2b(run.encode("utf-8", "replace"), key=key, digest_size=8).digest())


def register(registry: Registry, settings: Settings) -> None:
    key = key_of(settings)

    def asked(view: View) -> Sequence[int]:
        call = view.facts.call
        found = marks(last_said(call)[:LONGEST_PROMPT], key) if call is not None and fresh(call) else []
        return found if len(found) >= FEWEST else []

    def kept(view: View) -> Sequence[int]:
        call, answer = view.facts.call, view.answer
        if call is None or answer is None or not answer.said or (answer.status or 200) >= _FAILED or not fresh(call):
            return []
        own = {mark for text in (call.system, last_said(call)) for mark in marks(text[:LONGEST_PROMPT], key)}
        return [mark for mark in marks(answer.said, key) if mark not in own]

    def hears(view: View) -> bool:
        return view.facts.call is not None and fresh(view.facts.call)

    def unasked(view: View) -> object:
        call = view.facts.call
        if call is None:
            return NO_CALL
        return (NOT_ASKED if asked(view) else TOO_SHORT) if fresh(call) else IN_USE

    registry.add_signals((
        Signal("prompt.echo", FLOAT, "share, in thousandths, of the runs of words of the newest user text that came from "
               "earlier answers to the same account, of calls that stand alone", unasked, Cost.STATE,
               "a conversation, tools, a stream or an end user; too short; no rule asks for it",
               "judges in evaluations, summaries of summaries, people who paste an answer into a new chat",
               "A. Broder, On the resemblance and containment of documents, 1997", least=0,
               recalls=Recollection("account.id", LENGTH, asked, kept, hears)),
    ))  # fmt: skip
