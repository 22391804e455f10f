"""The generated world is worth testing in: everything that can happen does happen in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings

from gateway.decision import Action, Mode, Verdict
from tests.strategies import Plain, exchanges, judged, packs


def test_everything_happens_in_the_generated_world() -> None:
    seen: Counter[object] = Counter()

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(packs("p", (Mode.ENFORCE, Mode.SHADOW), broken=True), exchanges())
    def watch(written: Plain, sent: Any) -> None:
        for judgement in judged([written], sent):
            outcome = judgement.outcome
            happened = {outcome.action, "refused" if outcome.refusal else "passed", "quota" if outcome.headers else "no quota"}
            for end in outcome.decision.ends:
                happened |= {end.verdict, "excepted" * bool(end.excepted), "corroborated" * bool(end.corroborated)}
                happened |= {"abstained" * bool(end.abstained)}
                happened |= {"apart" * (end.action is not end.would), f"step {end.step}"}
            seen.update(happened)

    watch()
    wanted = {*Action} | {Verdict.MATCH, Verdict.UNKNOWN, Verdict.ERROR}
    wanted |= {"refused", "passed", "quota", "excepted", "abstained", "corroborated", "apart"}
    wanted |= {"step None", "step 0", "step 1", "step 2"}
    assert {what for what in wanted if seen[what] < 3} == set(), seen
