"""Law 7: content alone never acts, volume alone never denies: policies in which they do are judged so; corroboration holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import bundled_rules
from gateway.decision import Action, Mode
from gateway.language.compile import load
from gateway.language.lint import lint
from gateway.language.policy import Rule
from tests.judging import CATALOGUE, policy
from tests.strategies import Plain, exchanges, judged, packs, text

SETTINGS = settings(max_examples=60, deadline=None)
JUDGED = ("content-alone", "volume-denies")
MOST = {"content": Action.TAG, "volume": Action.THROTTLE}


def of_one_family(pack: Plain, family: str) -> Plain:
    """The pack as if all its evidence were of one family, and every response waited for a second one."""
    waits = {"families": 2, "within": "10m", "per": ["account.id"], "else": "observe"}
    return {**pack, "limits": [], "rules": [{**rule, "family": family, "corroborate": waits} for rule in pack["rules"]]}


def strongest(rule: Rule) -> Action:
    return max(effect.action for effect in rule.response.effects)


@SETTINGS
@given(written=packs("p", (Mode.ENFORCE, Mode.SHADOW)))
def test_every_rule_that_acts_on_content_or_denies_on_volume_alone_is_judged(written: Plain) -> None:
    found = policy(text(written))
    findings = [finding for finding in lint(found) if finding.judgement in JUDGED]
    alone = {
        rule.id for rule in found.rules if rule.corroborate is None and strongest(rule) > MOST.get(rule.family, Action.DENY)
    }
    spoken = {rule.id for rule in found.rules if any(f"'{rule.id}'" in finding.message for finding in findings)}
    assert spoken == alone


@SETTINGS
@given(written=packs("p", (Mode.ENFORCE,)), family=st.sampled_from(["content", "volume"]), sent=exchanges())
def test_one_family_never_corroborates_itself(written: Plain, family: str, sent: Any) -> None:
    for judgement in judged([of_one_family(written, family)], sent):
        assert max(judgement.outcome.action, judgement.outcome.would) <= Action.OBSERVE
        assert judgement.outcome.refusal is None


def test_no_shipped_rule_acts_so() -> None:
    assert [finding for finding in lint(load([bundled_rules()], CATALOGUE)) if finding.judgement in JUDGED] == []
