"""Two policies over one traffic: isolated state, what differs and why, and nothing where nothing differs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gateway.language.policy import Policy
from gateway.report.page import page
from gateway.report.printing import show
from tests.report.traffic import counted, labelled, pack, sent


def difference(here: Policy, there: Policy) -> dict[str, Any]:
    found: dict[str, Any] = counted(labelled(), here, against=there).as_dict(0, 0)["difference"]
    return found


LIMIT = "limits:\n  - {id: r.plan, per: [account.id], limit: LIMIT/minute, on_missing: skip, mode: enforce}"


@pytest.mark.parametrize("mode", ["shadow", "enforce"])
def test_a_policy_against_itself_differs_in_nothing(mode: str) -> None:
    same = pack(mode=mode, more=LIMIT.replace("LIMIT", "4"))
    found = difference(same, pack(mode=mode, more=LIMIT.replace("LIMIT", "4")))
    assert {key: found[key] for key in ("exchanges", "rules", "limits", "accounts")} == {
        "exchanges": {"policy": 0, "against": 0}, "rules": [], "limits": [], "accounts": [],
    }  # fmt: skip


def test_a_threshold_is_named_as_the_leaf_that_differs() -> None:
    (rule,) = difference(pack(threshold=3), pack(threshold=6))["rules"]
    # under 3: h1 3-5, b1 3-5, u1 3-5; from the sixth on both match
    assert (rule["policy"], rule["against"]) == ({"exchanges": 9, "accounts": 3}, {"exchanges": 0, "accounts": 0})
    (why,) = rule["why"]
    assert (why["what"], why["policy"], why["against"], why["exchanges"]) == (
        "leaf many", "requests gte 3: true", "requests gte 6: false", 9,
    )  # fmt: skip
    assert (why["example"]["policy"], why["example"]["against"]) == ("3", "3")


def test_the_other_side_acts_more() -> None:
    (rule,) = difference(pack(threshold=6), pack(threshold=3))["rules"]
    assert (rule["policy"]["exchanges"], rule["against"]["exchanges"]) == (0, 9)


@pytest.mark.parametrize(
    ("here", "there", "what", "said"),
    [
        (pack(mode="enforce"), pack(), "mode", ("enforce", "shadow")),
        (pack(), pack(action="observe"), "response", ("deny", "observe")),
        (pack(), pack(mode="off"), "the rule", ("there", "not there")),
    ],
    ids=["mode", "response", "off"],
)
def test_what_is_not_in_the_condition_is_named_too(here: Policy, there: Policy, what: str, said: tuple[str, str]) -> None:
    (rule,) = difference(here, there)["rules"]
    (why,) = rule["why"]
    assert (why["what"], why["policy"], why["against"]) == (what, *said)
    assert rule["policy"]["exchanges"] == why["exchanges"] > 0


def test_accounts_acted_on_by_one_only() -> None:
    found = {row["id"]: row for row in difference(pack(threshold=3), pack(threshold=6))["accounts"]}
    assert set(found) == {"h1", "b1", "u1"}
    assert found["b1"]["only"] == {"enforced": None, "would": "policy"}  # five exchanges: never six
    assert found["h1"]["only"] == {"enforced": None, "would": None}  # both come to it, one later
    assert (found["b1"]["policy"]["would"], found["b1"]["against"]["would"]) == ("deny", "allow")
    assert found["b1"]["exchanges"] == {"policy": 3, "against": 0}


def test_a_limit_that_is_full_under_one_only() -> None:
    here, there = (pack(more=LIMIT.replace("LIMIT", amount)) for amount in ("4", "5"))
    (limit,) = difference(here, there)["limits"]
    assert (limit["id"], limit["policy"]["exchanges"], limit["against"]["exchanges"]) == ("r.plan", 4, 0)


def test_each_policy_counts_in_a_state_of_its_own() -> None:
    """Were the state shared, each exchange would count twice and the rule match sooner."""
    alone = counted(labelled(), pack()).as_dict(0, 0)
    beside = counted(labelled(), pack(), against=pack()).as_dict(0, 0)
    beside.pop("difference")
    assert beside == alone


def test_an_account_of_a_hostile_name_is_a_row_like_any_other() -> None:
    hostile = "<script>[/bold]\u202e"
    found = counted(sent(hostile, 4, "x"), pack(), against=pack(threshold=6)).as_dict(0, 0)["difference"]
    assert [row["id"] for row in found["accounts"]] == [hostile]


def test_a_cap_that_was_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In JSON, in the tables and on the page: what went beyond is counted, and a number of accounts is «at least»."""
    monkeypatch.setattr("gateway.report.difference.MOST_ACCOUNTS", 2)
    monkeypatch.setattr("gateway.report.difference.MOST_REASONS", 0)
    monkeypatch.setattr("gateway.report.sweeps.MOST_ACCOUNTS", 1)
    here = pack(threshold=3)
    report = counted(labelled(), here, against=pack(threshold=6), pictured=True).as_dict(33, 0)
    found = report["difference"]
    (rule,) = found["rules"]
    assert rule["policy"] == {"exchanges": 9, "accounts": 2, "at_least": True}
    assert rule["of_further_reasons"] == 9
    assert len(found["accounts"]) == 2
    assert sum(found["of_further_accounts"].values()) == 9 - sum(sum(one["exchanges"].values()) for one in found["accounts"])
    (sweep,) = report["pictures"]["sweeps"]
    assert sweep["at_least"] == ["harvest", "honest"]  # two accounts each; of the unlabelled there is one
    out = io.StringIO()
    show(report, Console(file=out, width=200))
    assert "at least 2" in out.getvalue()
    assert "accounts beyond the first 2 are not told apart: 3 more exchanges" in out.getvalue()
    text = page(report, here)
    for said in (
        "9 exchanges of at least 2 accounts",
        "Accounts beyond the first 2 are not told apart",
        "harvesting accounts (at least)",
    ):
        assert said in text
    assert "accounts without a label (at least)" not in text


def test_nothing_is_said_of_caps_that_were_not_reached() -> None:
    found = difference(pack(threshold=3), pack(threshold=6))
    assert "of_further_accounts" not in found
    assert not {"at_least", "of_further_reasons"} & {*found["rules"][0], *found["rules"][0]["policy"]}
