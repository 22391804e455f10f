"""How pools hide from the rules on pace and relations: what still sees them, and what does not. Known misses are asserted too.

Each row is one way to evade, played on generated traffic through the shipped packs; a row that begins to be seen, or that is no
longer seen, fails here, so that the table in the documentation stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import pytest

from gateway.config import bundled_rules
from gateway.decision import Action, Verdict
from gateway.facts import Answer, Facts
from gateway.language.compile import load
from gateway.replay.played import play
from gateway.replay.scenarios import DAY, HOUR, MINUTE, SCENARIOS, Sent
from gateway.values import SECOND
from tests.judging import CATALOGUE, START

PACKS: Final = [bundled_rules() / f"{pack}.yaml" for pack in ("relations", "velocity", "reseller")]
POLICY: Final = load(PACKS, CATALOGUE)
LONG: Final = {"prompt.length": 900, "prompt.public": False}
Traffic = Iterable[Sent]


def made(name: str, seed: int = 7, **given: Any) -> list[Sent]:
    fields = SCENARIOS[name].fields
    assert given.keys() <= fields.keys()
    return list(SCENARIOS[name].make(Random(seed), {key: field.default for key, field in fields.items()} | given))


def with_values(traffic: Traffic, change: Callable[[int, Mapping[str, object]], Mapping[str, object]]) -> Iterator[Sent]:
    """The same traffic with some values in place of its own; `change` is told the number of the exchange."""
    for number, sent in enumerate(traffic):
        yield replace(sent, values={**sent.values, **change(number, sent.values)})


def matched(traffic: Traffic) -> tuple[set[str], Action]:
    """Every rule that matched anything, and the strongest action on the last exchange."""
    in_time = sorted(traffic, key=lambda sent: sent.after)
    exchanges = [(Facts(at=START + sent.after, recorded=dict(sent.values)), sent.answer) for sent in in_time]
    played = play(exchanges, POLICY, CATALOGUE)
    ends = [end.action for end in played.last.outcome.decision.ends if end.verdict is Verdict.MATCH]
    return {rule for rule, count in played.matched.items() if count}, max(ends, default=Action.ALLOW)


def plain_ring() -> Traffic:
    return with_values(made("ring", accounts=24), lambda number, values: LONG)


def paced() -> Traffic:
    return with_values(made("ring", accounts=24, requests=1, over=6 * DAY), lambda number, values: LONG)


def own_exit() -> Traffic:
    return with_values(made("ring", accounts=24, networks=24), lambda number, values: LONG)


def own_words() -> Traffic:
    return with_values(made("ring", accounts=24), lambda number, values: {**LONG, "prompt.template": f"paraphrase-{number}"})


def jittered() -> Traffic:
    rng = Random(3)
    return [replace(sent, after=sent.after + rng.randrange(20 * MINUTE)) for sent in plain_ring()]


def plain_hop() -> Traffic:
    return made("hop")


def sticky() -> Traffic:
    return made("hop", sticky=1)


def covered() -> Traffic:
    """Six in seven requests of each pooled account are conversations of ordinary users."""
    hops = made("hop")
    cover = made("product", requests=6 * len(hops), over=HOUR)
    accounts = [{name: sent.values[name] for name in ("account.id", "account.org", "account.age")} for sent in hops]
    return [*hops, *with_values(cover, lambda number, values: accounts[number % len(accounts)])]


def failing_over(after: int, next_owner: bool) -> Traffic:
    """Every tenth call is refused for its rate and tried again `after` µs later, under the next account or the same one."""
    for number, sent in enumerate(made("hop", sticky=1)):
        yield replace(sent, values={**sent.values, **LONG}, answer=Answer(429) if number % 10 == 0 else sent.answer)
        if number % 10 == 0:
            other = {"account.id": f"spare-{number}", "account.org": f"spare-{number}-org"} if next_owner else {}
            yield replace(sent, after=sent.after + after, values={**sent.values, **LONG, **other})


def fill_first() -> Traffic:
    """One account takes everything until it is refused; then the next takes over, with the refused call first."""
    for number, sent in enumerate(made("ring", accounts=24, requests=25)):
        block = number // 120
        values = {
            **sent.values,
            **LONG,
            "account.id": f"pool-{block}",
            "account.org": f"pool-{block}-org",
            "account.age": 90 * DAY,
        }
        values |= {"prompt.whole": f"whole-{number}", "account.payment": f"card-{block}"}
        refused = number % 120 == 119
        yield replace(sent, values=values, answer=Answer(429) if refused else sent.answer)
        if refused:
            again = {"account.id": f"pool-{block + 1}", "account.org": f"pool-{block + 1}-org"}
            yield replace(sent, after=sent.after + SECOND, values={**values, **again})


def everything_of_their_own() -> Traffic:
    """Own exit, own client, own card, own wording, aged, paced, and every conversation stays with its account."""
    for number, sent in enumerate(made("hop", sticky=1, over=6 * DAY)):
        account = sent.values["account.id"]
        own = {"client.network": f"198.51.{number % 250}.0/24", "client.fingerprint": f"client-of-{account}"}
        own |= {"client.connection": f"{account}:{number}", "account.payment": f"card-of-{account}", "account.age": 90 * DAY}
        yield replace(sent, values={**sent.values, **own, **LONG})


@dataclass(frozen=True)
class Row:
    """One way to evade. seen: rules that match all the same; missed: rules that are evaded."""

    evasion: str
    traffic: Callable[[], Traffic]
    seen: frozenset[str]
    missed: frozenset[str]


def row(evasion: str, traffic: Callable[[], Traffic], seen: str, missed: str) -> Row:
    return Row(evasion, traffic, frozenset(seen.split()), frozenset(missed.split()))


RING: Final = "velocity.shared-client-ring"
FANOUT: Final = "relations.egress-fanout"
SPREAD: Final = "relations.template-spread"
CARDS: Final = "relations.shared-payment"
HOP: Final = "relations.conversation-hop"
POOL: Final = "relations.conversation-pool"
ECHO: Final = "relations.failover-echo"
LINES: Final = "reseller.shared-connection"
ROWS: Final = (
    row("none, a ring", plain_ring, f"{RING} {FANOUT} {SPREAD} {CARDS}", HOP),
    row("none, a relay that deals turns out", plain_hop, f"{HOP} {POOL} {LINES}", f"{RING} {SPREAD}"),
    row("pacing: one request per account in six days", paced, CARDS, f"{RING} {FANOUT} {SPREAD}"),
    row("one proxy per account", own_exit, f"{SPREAD} {CARDS}", f"{RING} {FANOUT}"),
    row("paraphrase: a wording of its own per request", own_words, f"{FANOUT} {CARDS}", f"{RING} {SPREAD}"),
    row("jitter of twenty minutes", jittered, f"{RING} {FANOUT} {SPREAD} {CARDS}", HOP),
    row("cover traffic, six requests in seven", covered, f"{HOP} {POOL}", f"{RING} {SPREAD}"),
    row("sticky sessions", sticky, LINES, f"{HOP} {POOL} {ECHO}"),
    row("sticky sessions that fail over", lambda: failing_over(SECOND, True), f"{ECHO} {LINES}", RING),
    row("retry on the same key", lambda: failing_over(SECOND, False), LINES, f"{ECHO} {HOP} velocity.hammering"),
    row("failover after two minutes", lambda: failing_over(2 * MINUTE, True), LINES, ECHO),
    row("fill-first", fill_first, ECHO, f"{FANOUT} {RING} {SPREAD} {CARDS}"),
    row("all of it at once", everything_of_their_own, "", f"{RING} {FANOUT} {SPREAD} {CARDS} {HOP} {POOL} {ECHO} {LINES}"),
)


@pytest.mark.parametrize("one", ROWS, ids=lambda one: one.evasion)
def test_what_still_sees_it_and_what_does_not(one: Row) -> None:
    found, _ = matched(one.traffic())
    assert one.seen <= found
    assert not one.missed & found
    assert one.seen or not found


def test_every_rule_that_is_named_is_a_shipped_one() -> None:
    known = {rule.id for rule in POLICY.rules}
    assert {name for one in ROWS for name in one.seen | one.missed} <= known


def test_a_ring_is_asked_to_verify_only_once_something_else_agrees() -> None:
    rings = made("ring", accounts=70, requests=5)
    alone = [replace(sent, values={**sent.values, "account.payment": f"card-{sent.values['account.id']}"}) for sent in rings]
    assert matched(alone)[1] is Action.OBSERVE
    assert matched(rings)[1] is Action.VERIFY
