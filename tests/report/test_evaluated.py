"""Rules against labels: every number can be worked out by hand, and the bounds are those of a published table."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.report import bounds
from gateway.report.bounds import seen_for, upper_95
from gateway.report.evaluated import ANY
from gateway.report.labels import Labels
from tests.report.traffic import counted, labelled, pack, sent


def evaluated(**how: Any) -> dict[str, Any]:
    found = counted(labelled(), pack(**how)).as_dict(0, 0)["evaluation"]
    return {rule["id"]: rule for rule in found["rules"]} | {"harvest": found["harvest"]}


def test_precision_and_recall_by_account_and_by_exchange() -> None:
    found = evaluated()
    assert found["harvest"] == ["distill"]
    matched = found["r.busy"]["matched"]  # h1 from its third exchange on: 4; b1: 3; u1 has no label and does not count
    assert matched["precision"] == {"accounts": 1 / 2, "exchanges": 4 / 7}
    assert matched["recall"] == {"accounts": 1 / 2, "exchanges": 4 / 8}
    assert matched["wrong"]["accounts"] == {"found": 1, "of": 3, "upper_95": upper_95(1, 3)}
    assert matched["wrong"]["orgs"] == {"found": 1, "of": 3, "upper_95": upper_95(1, 3)}
    assert matched["wrong"]["exchanges"] == 3


def test_the_three_views_are_kept_apart() -> None:
    shadow, enforced, tagged = evaluated(), evaluated(mode="enforce"), evaluated(action="observe")
    of = ("matched", "acted_on", "would_act_on")
    for found, counts in ((shadow, (4, 0, 4)), (enforced, (4, 4, 4)), (tagged, (4, 0, 0))):
        row = found["r.busy"]["labels"]["distill"]
        assert tuple(row["exchanges"][view] for view in of) == counts
        assert tuple(row["accounts"][view] for view in of) == tuple(int(count > 0) for count in counts)
        assert (row["accounts"]["all"], row["exchanges"]["all"]) == (2, 8)


def test_the_whole_policy_has_a_row_with_its_limits() -> None:
    limited = pack(more="limits:\n  - {id: r.plan, per: [account.id], limit: 7/minute, on_missing: skip, mode: enforce}")
    found = counted(labelled(), limited).as_dict(0, 0)["evaluation"]["rules"]
    (whole,) = [rule for rule in found if rule["id"] == ANY]
    assert whole["labels"]["chat"]["exchanges"] == {"all": 9, "matched": 0, "acted_on": 2, "would_act_on": 2}


def test_time_to_detection_counts_those_never_found() -> None:
    waits = evaluated()["r.busy"]["labels"]
    assert waits["distill"]["seconds_to_detection"] == {"median": 2.0, "p90": None}  # one of two is never found
    assert waits["chat"]["seconds_to_detection"] == {"median": None, "p90": None}


def test_an_account_that_harvests_under_cover_is_no_honest_one() -> None:
    mixed = [*sent("x", 4, "distill"), *sent("x", 4, "relay", at=sent("x", 5, None)[-1].facts.at)]
    report = counted(mixed, pack()).as_dict(0, 0)
    row = next(rule for rule in report["evaluation"]["rules"] if rule["id"] == "r.busy")["matched"]
    nobody = {"found": 0, "of": 0, "upper_95": None}
    assert row["wrong"] == {"accounts": nobody, "orgs": nobody, "exchanges": 4}
    assert [(one["id"], one["label"], one["exchanges"]) for one in report["accounts"]] == [("x", "distill", 8)]


def test_an_org_is_wrongly_found_once_however_many_accounts_it_has() -> None:
    labels = Labels(orgs={"b1-org": "bench", "b2-org": "bench"})
    several = [one for name in ("b1", "b2") for one in sent(name, 4, None)]
    for one in several:
        one.facts.recorded["account.org"] = "b1-org"  # type: ignore[index]
    report = counted(several, pack(), labels).as_dict(0, 0)
    row = next(rule for rule in report["evaluation"]["rules"] if rule["id"] == "r.busy")["matched"]
    assert (row["wrong"]["accounts"]["found"], row["wrong"]["orgs"]["found"], row["wrong"]["orgs"]["of"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "seen", "bound"), [(0, 30_000, 0.0000998527), (0, 59, 0.0495097), (1, 10, 0.394163), (3, 100, 0.0757138)]
)
def test_bounds_are_those_of_clopper_and_pearson(wrong: int, seen: int, bound: float) -> None:
    assert upper_95(wrong, seen) == pytest.approx(bound, rel=1e-4)


def test_bounds_at_the_edges() -> None:
    assert (upper_95(0, 0), upper_95(5, 5)) == (1.0, 1.0)


@pytest.mark.parametrize(("wrong", "bound"), [(0, 0.0001), (0, 0.05), (3, 0.001), (0, 1.0), (2, 0.9)])
def test_the_least_number_that_meets_a_bound(wrong: int, bound: float) -> None:
    found = seen_for(wrong, bound)
    assert found is not None
    assert upper_95(wrong, found) <= bound
    assert found <= wrong + 1 or upper_95(wrong, found - 1) > bound


def test_no_number_of_accounts_proves_a_bound_of_nothing() -> None:
    assert seen_for(0, 0.0) is None


def test_without_scipy_labels_in_records_are_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.report.evaluated.bounded", lambda: False)
    assert evaluated()["r.busy"]["matched"]["wrong"]["accounts"] == {"found": 1, "of": 3, "upper_95": None}
    assert bounds.bounded()
