"""Small generated traffic for rule tests: what kinds of callers look like in the values of signals.

A scenario is a plain function of a seeded random source and its parameters: no clock, no catalogue, no network, so the same
words in a test file give the same exchanges for ever. Values are typed as the bundled signals are (durations in µs). Each
docstring says what real traffic the scenario stands for, what sets it apart, and where that is known from; the tests hold
every scenario to its docstring. Large labelled traffic is another matter and does not live here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from gateway.facts import Answer, Usage
from gateway.strict.shapes import Field, number, scalar, whole
from gateway.values import SECOND, parse_duration

MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sent:
    """One generated exchange. after: µs since the scenario began. values: by signal name, typed."""

    after: int
    values: Mapping[str, object]
    answer: Answer


Make = Callable[[Random, Parameters], Iterator[Sent]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of traffic. fields: its parameters, with defaults. size: how many exchanges they lead to."""

    make: Make
    fields: Mapping[str, Field]
    size: Callable[[Parameters], int]

    @property
    def name(self) -> str:
        return self.make.__name__


def ring(rng: Random, given: Parameters) -> Iterator[Sent]:
    """Accounts of one operator doing one job in turn: young, one client shape, one network, one template, fresh fillings.

    Stands for pools of fraudulent accounts behind one program that spreads its work evenly (round robin, few payment
    cards, one prompt skeleton), as public reports on large distillation campaigns describe them.
    accounts: members. requests: per member. over: from the first to the last. templates: skeletons in use.
    age: the oldest member's. networks: /24 networks they come from, each member from one.
    """
    run = _run(rng)
    ages = [rng.randrange(DAY, max(given["age"], DAY + 1)) for _ in range(given["accounts"])]
    cards = max(1, given["accounts"] // 8)
    for place, after in enumerate(_evenly(rng, given["accounts"] * given["requests"], given["over"])):
        member = place % given["accounts"]
        yield Sent(after, {
            **_account(f"ring-{member}", age=ages[member]), "account.payment": f"card-{member % cards}",
            **_client("ring-client", 113 + member % given["networks"], member),
            **_prompt(f"ring-template-{rng.randrange(given['templates'])}", f"ring-filling-{run}-{place}"),
        }, _answer(rng, 400, 1_200))  # fmt: skip


def campus_nat(rng: Random, given: Parameters) -> Iterator[Sent]:
    """Many people behind one address with one SDK version, most of them newly signed up, each asking something else.

    Stands for a university, a company or a hackathon: everything a ring shares, but not the work. It is the hard honest
    twin of `ring`.
    accounts: people. requests: per person, at times of their own. over: from the first to the last. young: the share of
    accounts younger than 30 days. starter: the share of requests that use one shared starter prompt.
    """
    run = _run(rng)
    born = [rng.randrange(DAY, 29 * DAY) for _ in range(given["accounts"])]
    ages = [age if rng.random() < given["young"] else age + 200 * DAY for age in born]
    for place, after in enumerate(_at_random(rng, given["accounts"] * given["requests"], given["over"])):
        person = rng.randrange(given["accounts"]) if place >= given["accounts"] else place
        shared = rng.random() < given["starter"]
        yield Sent(after, {
            **_account(f"student-{person}", age=ages[person]), "account.payment": f"student-card-{person}",
            **_client("campus-client", 113, 1),
            **_prompt("starter-template" if shared else f"question-frame-{run}-{place}", f"question-{run}-{place}",
                      turns=1 + 2 * rng.randrange(4), stream=rng.random() < 0.5),
        }, _answer(rng, 300, 500))  # fmt: skip


def benchmark(rng: Random, given: Parameters) -> Iterator[Sent]:
    """One organisation asks the fixed items of a test suite, every item several times, from one machine, and then ends.

    Stands for evaluation harnesses: one template and much volume like a harvest, but the fillings are finite: different
    ones grow to the number of items and stop. Agentic suites have many turns for each item, with tool results.
    accounts: keys of the organisation. items: of the suite. repeats: how often each is asked. turns: of the model per item.
    over: from the first to the last.
    """
    asked = [item for _ in range(given["repeats"]) for item in rng.sample(range(given["items"]), given["items"])]
    calls = [(item, turn) for item in asked for turn in range(given["turns"])]
    for place, after in enumerate(_evenly(rng, len(calls), given["over"])):
        item, turn = calls[place]
        yield Sent(after, {
            **_account(f"bench-key-{place % given['accounts']}", org="bench", age=400 * DAY),
            **_client("bench-client", 7, 7),
            **_prompt("suite-template", f"item-{item}", turns=1 + 2 * turn, tools=turn > 0),
        }, _answer(rng, 800, 200))  # fmt: skip


def harvest(rng: Random, given: Parameters) -> Iterator[Sent]:
    """A few templates filled with ever new things, round the clock, answered at length in one turn.

    Stands for the making of training data by prompting another model: novelty near one and without an end, single turns,
    answers longer than questions, accounts that have nothing in common but the template.
    accounts: each with an organisation and network of its own. requests: per account. over: from the first to the last.
    templates: skeletons. share: the share of requests that use them; the rest is cover, ordinary conversations.
    """
    run = _run(rng)
    for place, after in enumerate(_evenly(rng, given["accounts"] * given["requests"], given["over"])):
        account = place % given["accounts"]
        cover = rng.random() >= given["share"]
        prompt = (
            _prompt(f"chat-frame-{run}-{place}", f"chat-{run}-{place}", turns=3 + 2 * rng.randrange(3), stream=True)
            if cover
            else _prompt(f"harvest-template-{rng.randrange(given['templates'])}", f"harvest-filling-{run}-{place}")
        )
        values = {
            **_account(f"harvest-{account}", age=90 * DAY),
            **_client(f"client-{account % 3}", 20 + account % 200, account),
        }
        yield Sent(after, values | prompt, _answer(rng, 400, 1_200))


def product(rng: Random, given: Parameters) -> Iterator[Sent]:
    """A chat product: one system prompt, many end users, conversations of several turns, busy by day and quiet by night.

    Stands for an integration that sends one system prompt millions of times. Its volume and its fresh texts are those of a
    harvest; its conversations, its streaming and its day are not.
    accounts: keys of the one organisation. requests: in all. users: end users. over: from the first to the last.
    frames: how many frames the users' messages have; 0 gives each message its own, as free text has.
    """
    run = _run(rng)
    for place, after in enumerate(_by_day(rng, given["requests"], given["over"])):
        frame = rng.randrange(given["frames"]) if given["frames"] else f"{run}-{place}"
        text = "hello" if rng.random() < 0.1 else f"message-{run}-{place}"
        user = f"198.51.100.{rng.randrange(given['users']) % 250 + 1}"
        yield Sent(after, {
            **_account(f"product-key-{place % given['accounts']}", org="product", age=700 * DAY),
            **_client("product-client", 9, 9),
            **_prompt(f"message-frame-{frame}", text, turns=1 + 2 * rng.randrange(1, 5), stream=True, end_user=True),
            "prompt.system": "product-system", "reseller.forwarded_client": user,
        }, _answer(rng, 900, 250))  # fmt: skip


def hop(rng: Random, given: Parameters) -> Iterator[Sent]:
    """Conversations that go on under other accounts: a relay pools credentials and sends each turn with whichever is free.

    Stands for resale relays: unrelated organisations on a few keep-alive connections, one client shape and one network, and a
    conversation (its system text, its frame, its opening once something was answered, its growing number of turns) that changes
    its owner on the way.
    accounts: pooled credentials. conversations: how many. turns: of the model in each. connections: kept alive by the relay.
    sticky: the chance that a turn stays with the account before it. over: from the first to the last.
    """
    run = _run(rng)
    total = given["conversations"] * given["turns"]
    owner = [rng.randrange(given["accounts"]) for _ in range(given["conversations"])]
    for place, after in enumerate(_evenly(rng, total, given["over"])):
        turn, conversation = divmod(place, given["conversations"])
        if turn and rng.random() >= given["sticky"]:
            owner[conversation] = rng.randrange(given["accounts"])
        account = owner[conversation]
        connection = f"203.0.113.50:{40_000 + rng.randrange(given['connections'])}"
        text = f"turn-{run}-{conversation}-{turn}"
        told = {"prompt.whole": text} | ({"prompt.opening": f"opening-{run}-{conversation}"} if turn else {})
        yield Sent(after, {
            **told,
            **_account(f"pooled-{account}", age=(30 + 7 * account) * DAY), **_client("relay-client", 113, 50),
            "client.connection": connection, "prompt.system": f"system-{run}-{conversation}",
            **_prompt(f"conversation-{run}-{conversation}", text, turns=1 + 2 * turn, stream=True),
        }, _answer(rng, 600, 400))  # fmt: skip


def _run(rng: Random) -> str:
    """A mark that tells the texts of one run of a scenario from those of another."""
    return f"{rng.getrandbits(24):06x}"


def _evenly(rng: Random, count: int, over: int) -> Iterator[int]:
    """Times (µs) at an even pace with some jitter, in order; the first at zero, the last before `over`."""
    for place in range(count):
        yield (place * over + int(place > 0 and rng.random() * 0.8 * over)) // count


def _at_random(rng: Random, count: int, over: int) -> list[int]:
    return sorted(rng.randrange(over) for _ in range(count))


def _by_day(rng: Random, count: int, over: int) -> list[int]:
    """Times (µs) of which nine in ten fall from 08:00 to 20:00, counted from the scenario's midnight."""
    times: list[int] = []
    while len(times) < count:
        after = rng.randrange(over)
        if 8 * HOUR <= after % DAY < 20 * HOUR or rng.random() < 1 / 9:
            times.append(after)
    return sorted(times)


def _account(name: str, age: int, org: str = "") -> dict[str, object]:
    return {"account.id": name, "account.org": org or f"{name}-org", "account.age": age, "account.known": True}


def _client(shape: str, network: int, host: int) -> dict[str, object]:
    net = f"203.0.{network % 256}"
    return {"client.fingerprint": shape, "client.network": f"{net}.0/24", "client.ip": f"{net}.{host % 250 + 1}"}


def _prompt(
    template: str, slots: str, turns: int = 1, tools: bool = False, stream: bool = False, end_user: bool = False
) -> dict[str, object]:
    return {
        "prompt.template": template, "prompt.slots": slots, "prompt.turns": turns, "prompt.has_tool_results": tools,
        "request.stream": stream, "request.end_user": end_user,
    }  # fmt: skip


def _answer(rng: Random, asked: int, answered: int) -> Answer:
    """An answer of 200 whose tokens scatter around what is usual for the scenario."""
    return Answer(200, Usage(rng.randint(asked // 2, asked * 3 // 2), rng.randint(answered // 2, answered * 3 // 2)))


def _count(what: str, default: int, low: int = 1) -> Field:
    return Field(whole(what, low, 100_000), default=default)


def _span(what: str, default: int) -> Field:
    return Field(scalar(parse_duration, what), default=default)


def _share(what: str, default: float) -> Field:
    return Field(number(what, 0, 1), default=default)


def _each(given: Parameters) -> int:
    return int(given["accounts"] * given["requests"])


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(ring, {"accounts": _count("accounts", 10), "requests": _count("requests", 20),
                        "over": _span("over", 30 * MINUTE), "templates": _count("templates", 1),
                        "age": _span("age", 20 * DAY), "networks": _count("networks", 1)}, _each),
        Scenario(campus_nat, {"accounts": _count("accounts", 200), "requests": _count("requests", 3),
                              "over": _span("over", HOUR), "young": _share("young", 0.9),
                              "starter": _share("starter", 0.0)}, _each),
        Scenario(benchmark, {"accounts": _count("accounts", 1), "items": _count("items", 100), "repeats": _count("repeats", 5),
                             "turns": _count("turns", 1), "over": _span("over", 6 * HOUR)},
                 lambda given: int(given["items"] * given["repeats"] * given["turns"])),
        Scenario(harvest, {"accounts": _count("accounts", 1), "requests": _count("requests", 200),
                           "over": _span("over", 20 * HOUR), "templates": _count("templates", 1),
                           "share": _share("share", 1.0)}, _each),
        Scenario(product, {"accounts": _count("accounts", 2), "requests": _count("requests", 400),
                           "users": _count("users", 100), "over": _span("over", DAY),
                           "frames": _count("frames", 0, low=0)}, lambda given: int(given["requests"])),
        Scenario(hop, {"accounts": _count("accounts", 20), "conversations": _count("conversations", 30),
                       "turns": _count("turns", 5), "connections": _count("connections", 4),
                       "sticky": _share("sticky", 0.5), "over": _span("over", HOUR)},
                 lambda given: int(given["conversations"] * given["turns"])),
    )
}  # fmt: skip
