"""How a harvest hides from the prompt pack: what still sees it, and what does not. Known misses are asserted too.

One pipeline that has questions written and solved is disguised again and again, as bytes and ordered headers through the real
intake, signals, engine and all shipped packs. A row that begins to be seen, or that is no longer seen, fails here, so that the
table in the documentation stays true. The rules on pace, relations and relays have theirs in `test_velocity_evasions.py` and
`plugins/test_disguises.py`; what hides a single text is in `plugins/test_prompt.py`, `test_structure.py` and `test_kinship.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, Final

import pytest

from gateway.config import bundled_rules
from gateway.decision import Mode
from gateway.errors import Place
from gateway.facts import Answer
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange
from gateway.values import SECOND
from tests.plugins.wires import AGENT_TOOLS, CURL, PLAIN, PYTHON, START, Headers, but, first, registry, sent, written

MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
CALLS: Final = 120
SYSTEM: Final = "You write careful worked solutions for a course on practical matters."
LEAD: Final = "A short passage from a course on practical matters stands below."
FRAME: Final = (
    LEAD + "\n{passage}\nGenerate one new question about the passage above that needs several steps, then think step by step, "
    "show every intermediate result, and state the final answer at the end."
)
LOOKS: Final = str.maketrans({"e": "е", "a": "а", "o": "о"})  # Cyrillic letters that look the same


@dataclass(frozen=True)
class Call:
    """One request before it is written: whose, when, how it is sent and what it says."""

    at: int
    text: str
    system: str = SYSTEM
    account: str = "a"
    headers: Headers = PYTHON
    peer: str = "203.0.113.9"
    connection: str = "c"
    fields: tuple[tuple[str, Any], ...] = (("temperature", 0.8), ("max_tokens", 1_024), ("stream", False))
    before: tuple[dict[str, str], ...] = ()
    shuffled: int | None = None

    @property
    def body(self) -> bytes:
        messages = [{"role": "system", "content": self.system}, *self.before, {"role": "user", "content": self.text}]
        pairs = [("model", "large-2"), ("messages", messages), *self.fields]
        if self.shuffled is not None:
            Random(self.shuffled).shuffle(pairs)
        return written(dict(pairs))

    def but(self, **fields: Any) -> Call:
        """The same with some parameters in place of its own, or besides them."""
        return replace(self, fields=tuple((dict(self.fields) | fields).items()))


Disguise = Callable[[int, Call], Call]


def words(rng: Random, count: int) -> str:
    return " ".join("".join(rng.choices("aeiounrstlmdpk", k=rng.randrange(4, 10))) for _ in range(count))


def harvest(calls: int = CALLS, over: int = HOUR) -> list[Call]:
    """One frame, a new passage for every call."""
    rng = Random(5)
    return [Call(START + number * over // calls, FRAME.format(passage=words(rng, 40))) for number in range(calls)]


def disguised(*disguises: Disguise, calls: int = CALLS, over: int = HOUR) -> list[Call]:
    found = harvest(calls, over)
    for disguise in disguises:
        found = [disguise(number, call) for number, call in enumerate(found)]
    return found


def other_headers(number: int, call: Call) -> Call:
    """Normalised on the way: the names in another order and case, no SDK's own ones."""
    return replace(call, headers=tuple((name.title(), value) for name, value in first(PLAIN, "content-type", "accept")))


def a_client_each(number: int, call: Call) -> Call:
    return replace(call, headers=(CURL, PLAIN, PYTHON, but(PLAIN, {"user-agent": f"tool/{number}"}))[number % 4])


def other_key_order(number: int, call: Call) -> Call:
    return replace(call, shuffled=number)


def invisible(number: int, call: Call) -> Call:
    """A zero-width space and a doubled one somewhere else each time."""
    place = 1 + number % (len(call.text) - 2)
    return replace(call, text=call.text[:place] + "\u200b" + call.text[place:].replace(" ", "  ", number % 5))


def look_alike(number: int, call: Call) -> Call:
    return replace(call, text=call.text.translate(LOOKS) if number % 2 else call.text)


def lightly_reworded(number: int, call: Call) -> Call:
    """One word in eight of the frame is another, other ones each time."""
    rng = Random(number)
    return replace(call, text=" ".join(words(rng, 1) if rng.random() < 0.125 else word for word in call.text.split(" ")))


def reworded(number: int, call: Call) -> Call:
    """Nothing is left of frame and system text but the length."""
    rng = Random(number)
    return replace(call, text=words(rng, len(call.text.split())), system=words(rng, 12))


def of_five_frames(number: int, call: Call) -> Call:
    return replace(call, text=f"{words(Random(number % 5), 30)}\n{call.text.split(chr(10))[1]}", system=words(Random(9), 9))


def filling_first(number: int, call: Call) -> Call:
    """The passage stands before everything that is the same in all calls."""
    return replace(call, text=call.text.removeprefix(LEAD + "\n"))


def undecided(number: int, call: Call) -> Call:
    """No parameters but what has to be said."""
    return replace(call, fields=(("max_tokens", 1_024),))


def streamed(number: int, call: Call) -> Call:
    return call.but(stream=True)


def with_tools(number: int, call: Call) -> Call:
    return call.but(tools=[{"type": "function", "function": {"name": tool["name"], "parameters": {}}} for tool in AGENT_TOOLS])


def with_end_user(number: int, call: Call) -> Call:
    return call.but(user=f"user-{number}")


def seeded(number: int, call: Call) -> Call:
    return call.but(seed=number)


def over_accounts(accounts: int) -> Disguise:
    """Dealt over accounts, each with an owner, an address and a connection of its own."""

    def deal(number: int, call: Call) -> Call:
        own = number % accounts
        return replace(call, account=f"a{own}", peer=f"198.51.{own}.9", connection=f"c{own}")

    return deal


def covered(times: int) -> Callable[[], list[Call]]:
    """So many calls of conversations for every call of the harvest, from the same account."""

    def make() -> list[Call]:
        rng, found = Random(8), []
        for call in harvest():
            found.append(call)
            for number in range(times):
                said = ({"role": "user", "content": words(rng, 12)}, {"role": "assistant", "content": words(rng, 30)})
                found.append(replace(call.but(stream=True), at=call.at + number + 1, text=words(rng, 9), before=said))
        return found

    return make


@cache
def shipped() -> Policy:
    return load([bundled_rules()], registry().signals)


def matched(calls: Iterable[Call]) -> set[str]:
    """Every rule of the shipped packs that matched any of them."""
    found: set[str] = set()
    exchanges = []
    for number, call in enumerate(sorted(calls, key=lambda call: call.at)):
        facts = sent(
            call.headers, call.body, at=call.at, path="/v1/chat/completions", account=call.account, peer=call.peer,
            connection=call.connection,
        )  # fmt: skip
        exchanges.append(Exchange(Place("requests", number + 1), f"{number:032x}", facts, Answer(status=200)))
    for played in replay(exchanges, shipped(), registry().signals, Mode.ENFORCE):
        found |= {end.rule for end in played.judgement.outcome.decision.matches()}
    return found


@dataclass(frozen=True)
class Row:
    """One way to evade. seen: rules that match all the same; missed: rules that are evaded."""

    evasion: str
    calls: Callable[[], list[Call]]
    seen: frozenset[str]
    missed: frozenset[str]


HARVEST: Final = "template-harvest"
BULK: Final = "bulk-generation"
MAKING: Final = "task-making"
ALL: Final = f"{HARVEST} {BULK} {MAKING}"


def row(evasion: str, calls: Callable[[], list[Call]], seen: str, missed: str) -> Row:
    return Row(evasion, calls, *(frozenset(f"prompt.{name}" for name in names.split()) for names in (seen, missed)))


ROWS: Final = (
    row("none: one frame, one account", harvest, ALL, ""),
    row("header normalisation", lambda: disguised(other_headers), ALL, ""),
    row("another client for every call", lambda: disguised(a_client_each), ALL, ""),
    row("key order: another for every call", lambda: disguised(other_key_order), ALL, ""),
    row("zero-width and doubled spaces", lambda: disguised(invisible), ALL, ""),
    row("look-alike letters", lambda: disguised(look_alike), ALL, ""),
    row("paraphrase: one word in eight", lambda: disguised(lightly_reworded), f"{BULK} {MAKING}", HARVEST),
    row("paraphrase: every word", lambda: disguised(reworded), BULK, f"{HARVEST} {MAKING}"),
    row("paraphrase: every word, no temperature", lambda: disguised(reworded, undecided), "", ALL),
    row("the filling first, then the frame", lambda: disguised(filling_first), f"{BULK} {MAKING}", HARVEST),
    row("five frames in turn", lambda: disguised(of_five_frames), BULK, f"{HARVEST} {MAKING}"),
    row("no temperature", lambda: disguised(undecided), f"{HARVEST} {MAKING}", BULK),
    row("a pinned seed with every call", lambda: disguised(seeded), MAKING, f"{HARVEST} {BULK}"),
    row("a stream asked for with every call", lambda: disguised(streamed), "", ALL),
    row("an end-user id with every call", lambda: disguised(with_end_user), "", ALL),
    row("tools declared with every call", lambda: disguised(with_tools), HARVEST, f"{BULK} {MAKING}"),
    row("pacing: fifty calls a day", lambda: disguised(over=58 * HOUR), "", ALL),
    row("pacing: a hundred calls a day", lambda: disguised(over=29 * HOUR), ALL, ""),
    row("one proxy per account, two accounts", lambda: disguised(over_accounts(2)), ALL, ""),
    row("one proxy per account, ten accounts", lambda: disguised(over_accounts(10)), "", ALL),
    row("cover traffic, six requests in seven", covered(6), "", ALL),
    row("all of it at once", lambda: disguised(other_headers, reworded, streamed, over_accounts(10), over=58 * HOUR), "", ALL),
)


@pytest.mark.parametrize("one", ROWS, ids=lambda one: one.evasion)
def test_what_still_sees_it_and_what_does_not(one: Row) -> None:
    found = matched(one.calls())
    assert one.seen <= found
    assert not one.missed & found
    assert one.seen or not any(rule.startswith("prompt.") for rule in found)


def test_every_rule_that_is_named_is_a_shipped_one() -> None:
    known = {rule.id for rule in shipped().rules}
    assert {name for one in ROWS for name in one.seen | one.missed} <= known


def test_every_kind_of_evasion_that_is_known_has_a_row() -> None:
    kinds = ("header normalisation", "key order", "paraphrase", "pacing", "one proxy per account", "cover traffic")
    assert [kind for kind in kinds if not any(one.evasion.startswith(kind) for one in ROWS)] == []


def test_cover_traffic_must_be_most_of_the_traffic() -> None:
    """One conversation among eleven calls does not hide the other ten."""
    calls = [call for number, call in enumerate(covered(1)()) if number % 2 == 0 or number % 20 == 1]
    assert {f"prompt.{name}" for name in ALL.split()} <= matched(calls)
