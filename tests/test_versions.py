"""Versions of packs over the life of a process."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.errors import PolicyError
from gateway.gate import Gate
from gateway.language.policy import Policy
from gateway.versions import Versions, meanings
from tests.judging import CATALOGUE, policy

RULE = """
  - {{id: {name}.r, title: {title}, family: network, owner: o,
     when: {{client.country: {country}}}, then: {{action: deny}}, mode: shadow}}
"""


def pack(version: int, name: str = "p", country: str = "NO", title: str = "t") -> str:
    rule = RULE.format(name=name, country=country, title=title)
    return f"pack: {name}\nversion: {version}\nlanguage: 1\nrules:{rule}"


def gate(*packs: str) -> Gate:
    return Gate(policy(*packs), CATALOGUE)


def refused(judging: Gate, wanted: Policy) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        judging.use(wanted)
    return [str(problem) for problem in caught.value.problems]


def test_a_lower_version_does_not_come_back_while_its_pack_was_gone() -> None:
    judging = gate(pack(5), pack(1, "q"))
    assert judging.use(policy(pack(1, "q"))) == []
    assert refused(judging, policy(pack(4), pack(1, "q"))) == [
        "pack 'p': version 4 is lower than 5, which was in force; raise it above that;"
        " what was withdrawn comes back under a new version"
    ]
    assert judging.policy.packs == {"q": 1}
    assert judging.use(policy(pack(5))) == []
    assert judging.use(policy(pack(6))) == []
    assert "lower than 6, which is in force" in refused(judging, policy(pack(5)))[0]


def test_a_refused_policy_raises_no_version() -> None:
    judging = gate(pack(5))
    refused(judging, policy(pack(4), pack(9, "q")))
    assert judging.use(policy(pack(5), pack(8, "q"))) == []


def test_a_meaning_that_changed_without_a_higher_version_is_told() -> None:
    judging = gate(pack(5), pack(1, "q"))
    told = ["pack 'p' changed its meaning without a higher version"]
    assert judging.use(policy(pack(5, country="SE"), pack(1, "q"))) == told
    assert judging.use(policy(pack(5, country="SE"), pack(2, "q", "SE"))) == [], "once"
    assert judging.use(policy(pack(2, "q", "SE"))) == []
    assert judging.use(policy(pack(5), pack(2, "q", "SE"))) == told, "also where the pack was gone in between"


def test_words_that_decide_nothing_are_no_other_meaning() -> None:
    judging = gate(pack(5))
    assert judging.use(policy(pack(5, title="another"))) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("lists: {l: {type: country, values: [NO]}}", "lists: {l: {type: country, values: [NO, SE]}}"),
        (
            "limits: [{id: p.l, per: [account.id], limit: 5/minute, on_missing: skip, mode: shadow}]",
            "limits: [{id: p.l, per: [account.id], limit: 6/minute, on_missing: skip, mode: shadow}]",
        ),
    ],
)
def test_lists_and_limits_are_part_of_the_meaning_of_their_pack(before: str, after: str) -> None:
    head, other = "pack: p\nversion: 1\nlanguage: 1\n", pack(1, "q")
    found = [meanings(policy(head + part, other)) for part in (before, after)]
    assert found[0]["p"] != found[1]["p"]
    assert found[0]["q"] == found[1]["q"]


def test_a_meaning_is_worked_out_once_and_forgotten_with_its_policy() -> None:
    versions, packs = Versions(), [policy(pack(number)) for number in range(1, 5)]
    for old, new in pairwise(packs):
        assert versions.learn(new) is versions.learn(new)
        assert versions.change(old, new) == ([], [])
    assert len(versions._meanings) == 1
