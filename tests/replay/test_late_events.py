"""What `shuffle` claims: delivered late, but within the promise, the same exchanges leave every window reading the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.facts import Answer, Facts
from gateway.language.policy import Policy
from gateway.replay.played import overfull, play, play_shuffled
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy

KINDS = {
    "n": "count: true", "s": "sum: request.size", "d": "distinct: client.country", "t": "top_share: client.country",
    "q": "quantile: request.size, rank: 0.5", "f": "count: true, where: {response.status: {gte: 500}}",
}  # fmt: skip


def measured(window: str) -> Policy:
    """A policy with a measure of every kind over this window, and a ratio, all read by one rule."""
    kinds = ", ".join(f"{name}: {{{kind}, per: [account.id], window: {window}}}" for name, kind in KINDS.items())
    leaves = ", ".join(f"{{{name}: {{gte: 1}}}}" for name in (*KINDS, "r"))
    return policy(f"""
pack: p
version: 1
language: 1
rules:
  - id: p.r
    title: t
    family: client
    owner: o
    measures: {{{kinds}, r: {{ratio: [d, n]}}}}
    when: {{any: [{leaves}]}}
    then: {{action: observe}}
    mode: enforce
""")


POLICIES = {window: measured(window) for window in ("8s", "10m", "1h", "3h")}
SENT = st.tuples(
    st.integers(0, 900), st.sampled_from(["a", "a", "b"]), st.sampled_from(["NO", "SE", "DK"]), st.integers(0, 9),
    st.sampled_from([200, 503]),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(sent=st.lists(SENT, min_size=2, max_size=40), window=st.sampled_from(sorted(POLICIES)), seed=st.integers(0, 9))
def test_windows_read_the_same_after_the_last_exchange(
    sent: list[tuple[int, str, str, int, int]], window: str, seed: int
) -> None:
    made: list[tuple[Facts, Answer]] = []
    at = START
    for after, account, country, size, status in sent:
        at += after * SECOND
        values = {"account.id": account, "client.country": country, "request.size": size}
        made.append((facts(values, at), Answer(status)))
    found = POLICIES[window]
    assert overfull(made, found.rules) == []
    ordered = play(made, found, CATALOGUE)
    again = play_shuffled(made, ordered.answers, seed, found.rules, ordered)
    assert again.last.evaluated.values == ordered.last.evaluated.values
    assert again.leaves(found.rules[0]) == ordered.leaves(found.rules[0])
    assert again.end("p.r").verdict is ordered.end("p.r").verdict
