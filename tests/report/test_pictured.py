"""What pictures are drawn of: bounded whatever comes, and right where it can be counted by hand."""

from __future__ import annotations

import pytest

from gateway.clusters.table import Hashes
from gateway.replay.driver import replay
from gateway.report import pictured
from gateway.report.charts import charts, shown
from gateway.report.counts import Counts
from gateway.report.distinct import Distinct
from gateway.report.labels import Labels
from gateway.report.pictures import Pictures
from tests.clusters.finding import seen_of
from tests.clusters.traffic import normal, records, ring
from tests.judging import CATALOGUE, START
from tests.judging import policy as policy_of
from tests.report.traffic import DAY, HOUR, counted, exchange, labelled, pack, sent


def drawn(counts: Counts) -> Pictures:
    assert counts.pictures is not None
    return counts.pictures


def test_distinct_is_exact_while_few_and_near_beyond() -> None:
    few, many = Distinct(Hashes(), 64), Distinct(Hashes(), 1_024)
    for number in range(50):
        few.add(f"{number % 25}")
    for number in range(20_000):
        many.add(f"{number % 10_000}")
    assert (few.count, few.exact) == (25, True)
    assert not many.exact
    assert many.count == pytest.approx(10_000, rel=0.1)  # three standard errors
    assert len(many._held) == 1_024


def test_time_falls_into_few_buckets_and_nothing_is_lost() -> None:
    rows = sent("h1", 300, "distill", every=7 * HOUR)
    over = drawn(counted(rows, pack(), pictured=True)).over_time
    told = over.plain()
    assert len(told["times"]) <= pictured.MOST_BUCKETS
    assert told["width_s"] * 1_000_000 % DAY == 0
    assert sum(map(sum, told["action"].values())) == 300
    assert sum(told["rule"]["r.busy"]) == sum(told["label"]["distill"]) == sum(told["action"]["deny"])


def test_buckets_are_hours_where_days_are_seen() -> None:
    told = drawn(counted(sent("a", 60, None, every=HOUR), pack(), pictured=True)).over_time.plain()
    assert told["width_s"] == 3_600
    assert told["times"][0] == "2026-11-01T02:00:00.000000Z"


def test_exchanges_conversations_and_tasks() -> None:
    rows = []
    for number, (account, root, slots, turns) in enumerate(
        [("a", "q", "q", 1), ("a", "q", "more", 3), ("a", "q", "yet more", 5), ("b", "q", "q", 1), ("b", "r", "r", 1)]
    ):
        values = {
            "account.id": account,
            "prompt.root": root,
            "prompt.slots": slots,
            "prompt.turns": turns,
            "prompt.template": "t",
        }
        rows.append(exchange(number, values, START + number, "chat"))
    (row,) = drawn(counted(rows, pack(), pictured=True)).units.plain()
    assert row == {"label": "chat", "exchanges": 5, "roots": 3, "tasks": 2, "exact": True}


def test_novelty_of_a_fixed_set_levels_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictured, "MOST_TEMPLATES", 8)
    rows = []
    for number in range(400):
        rows.append(exchange(2 * number, {"prompt.template": "suite", "prompt.slots": f"item-{number % 20}"}, START + number))
        rows.append(exchange(2 * number + 1, {"prompt.template": f"rare-{number}", "prompt.slots": "x"}, START + number))
    found = drawn(counted(rows, pack(), pictured=True)).novelty
    assert len(found.templates) <= 8
    (row,) = found.plain(12)
    assert (row["template"], row["exchanges"], row["fillings"]) == ("suite", 400, 20)
    assert row["points"][0] == (1, 1)
    assert row["points"][-1] == (400, 20)
    assert len(row["points"]) < 40


def test_labels_without_end_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [one for number in range(100) for one in sent(f"a{number}", 1, f"label-{number}")]
    found = counted(rows, pack(), pictured=True)
    assert len(drawn(found).units.plain()) == pictured.MOST_LABELS + 1


def test_a_sweep_says_what_each_threshold_would_catch() -> None:
    counts = counted(labelled(), pack(threshold=4), pictured=True)
    (sweep,) = drawn(counts).sweeps.plain()
    by_threshold = dict(zip(sweep["thresholds"], sweep["accounts"]["harvest"], strict=True))
    assert sweep["written"] == 4
    assert [by_threshold[number] for number in (1, 2, 3, 4, 5, 6, 8)] == [2, 2, 1, 1, 1, 1, 0]
    honest = dict(zip(sweep["thresholds"], sweep["accounts"]["honest"], strict=True))
    assert [honest[number] for number in (1, 2, 3, 4, 5, 6)] == [2, 2, 1, 1, 1, 0]


@pytest.mark.parametrize("threshold", [1, 2, 3, 5, 6, 8])
def test_a_sweep_agrees_with_a_policy_that_has_that_threshold(threshold: int) -> None:
    """The property that makes a sweep worth looking at: each point is what a replay with that threshold finds."""
    (sweep,) = drawn(counted(labelled(), pack(threshold=4), pictured=True)).sweeps.plain()
    place = sweep["thresholds"].index(threshold)
    real = counted(labelled(), pack(threshold=threshold)).report
    swept = sum(counts[place] for counts in sweep["exchanges"].values())
    assert swept == real.rules["r.busy"].verdicts["match"]
    assert sum(counts[place] for counts in sweep["accounts"].values()) == real.rules["r.busy"].accounts


CHOICE = """
pack: r
version: 1
language: 1
rules:
  - id: r.choice
    title: A choice
    family: volume
    owner: tests
    measures: {requests: {count: true, per: [account.id], window: 1d}}
    when: {any: [{id: many, requests: {gte: THRESHOLD}}, {all: [{request.model: other}, {id: some, requests: {lt: 3}}]}]}
    then: {of: requests, steps: [{from: 4, action: tag, tag: x}, {from: 6, action: deny}]}
    mode: shadow
  - id: r.not
    title: Not
    family: volume
    owner: tests
    when: {none: [{request.size: {gt: 5}}]}
    then: {action: tag, tag: y}
    mode: shadow
"""


@pytest.mark.parametrize("threshold", [2, 4, 5])
def test_what_holds_without_the_threshold_is_caught_at_every_one(threshold: int) -> None:
    written = policy_of(CHOICE.replace("THRESHOLD", "4"))
    found = {one["what"]: one for one in drawn(counted(labelled(), written, pictured=True)).sweeps.plain()}
    assert set(found) == {
        "many",
        "some",
        "step deny",
    }  # the step from 4 is the comparison with 4; what must not hold is not swept
    sweep = found["many"]
    real = counted(labelled(), policy_of(CHOICE.replace("THRESHOLD", str(threshold)))).report
    caught = sum(counts[sweep["thresholds"].index(threshold)] for counts in sweep["exchanges"].values())
    assert caught == real.rules["r.choice"].verdicts["match"]


def test_clusters_come_with_the_labels_of_their_accounts() -> None:
    counts = counted(labelled(), pack(), pictured=True)
    pictures = drawn(counts)
    pictures.seen = seen_of(records(ring, normal, scale=0.3))
    found = pictures.plain(counts.report)["clusters"]
    assert found["found"] >= 1
    largest = found["largest"][0]
    assert (largest["accounts"] >= 5, len(largest["families"]) >= 2) == (True, True)
    assert largest["labels"] == {pictured.UNLABELLED: largest["accounts"]}


def test_exchanges_are_seen_by_clusters_as_records_are() -> None:
    values = {"account.id": "a", "account.org": "o", "account.payment": "card", "prompt.template": "t", "prompt.slots": "s"}
    rows = [exchange(number, values, START + number) for number in range(3)]
    seen = drawn(counted(rows, pack(), pictured=True)).seen
    assert (seen.read, seen.nameless, seen.recorded["account.payment"], len(seen.tables["payment"])) == (3, 0, 3, 3)
    assert list(seen.accounts.tallies["exchanges"]) == [3]


def test_every_colour_of_a_label_says_what_it_means() -> None:
    found = counted(labelled(), pack(), pictured=True).as_dict(0, 0)
    assert found["pictures"]["sides"] == {
        "distill": "harvest", "bench": "honest", "chat": "honest", pictured.UNLABELLED: "unlabelled",
        pictured.OTHERS: "unlabelled",
    }  # fmt: skip
    told = charts(found)
    assert [one.id for one in told["time"]] == ["chart-actions", "chart-by-rule", "chart-by-label", "chart-found"]
    assert len({one.id for below in told.values() for one in below}) == sum(map(len, told.values()))


def test_texts_are_cut_and_spelled_out() -> None:
    assert shown("a\u202eb\x00") == "a\\u202eb\\x00"
    assert len(shown("x" * 500)) == 121


def test_a_warm_up_is_judged_and_not_reported() -> None:
    rows = sent("h1", 6, "distill")
    counts = Counts.of(pack(), Labels(), None, True)
    for one in replay(rows, pack(), CATALOGUE):
        counts.take(one.observed, warm=one.exchange.facts.at < START + 3_000_000)
    found = counts.as_dict(6, 0)
    assert (found["records"]["warm_up"], found["records"]["judged"]) == (3, 3)
    assert found["rules"][0]["match"] == 3  # the fourth to sixth: the first three were counted
