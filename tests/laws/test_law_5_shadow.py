"""Law 5: shadow never leaks, and what it says is true."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Action, Mode, Verdict
from gateway.errors import StateError
from gateway.facts import Answer, Cause, Facts
from gateway.failing import Dependency, Fail, FailModes
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language import emit
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Reply
from gateway.values import SECOND, Failed
from tests.judging import CATALOGUE, START, judge, policy
from tests.strategies import WORKLOADS, WRONG, Plain, Sent, exchanges, facts, judged, packs, text

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True, database=None)
ENFORCED = packs("p", (Mode.ENFORCE,))
SHADOW = packs("s", (Mode.SHADOW,), broken=True, most=5)


def labels(found: list[Judgement]) -> frozenset[str]:
    """The measures and notes that were seen, without those of the would-be view."""
    seen = {label for judgement in found for label in judgement.outcome.decision.measures}
    return frozenset(label for label in seen if not label.startswith("would-be "))


def enforced(judgement: Judgement, measures: frozenset[str]) -> dict[str, Any]:
    """Everything that is enforced of one exchange: what its caller sees, what it leaves behind, why."""
    outcome, decision = judgement.outcome, judgement.outcome.decision
    return {
        "outcome": (
            outcome.action,
            outcome.refusal,
            outcome.tags,
            outcome.delay,
            outcome.headers,
            outcome.cause,
            outcome.asked,
        ),
        "decision": decision.action,
        "rooms": [room for room in outcome.rooms if not room.shadow],
        "measures": {label: value for label, value in decision.measures.items() if label in measures},
        "ends": [
            (end.rule, end.verdict, end.action, end.missing, end.error, end.excepted, end.step, end.abstained, end.asks)
            for end in decision.ends
            if end.mode is Mode.ENFORCE
        ],
    }


@SETTINGS
@given(written=ENFORCED, shadow=SHADOW, sent=exchanges())
def test_adding_and_breaking_shadow_rules_changes_nothing_that_is_enforced(written: Plain, shadow: Plain, sent: Any) -> None:
    without, beside = judged([written], sent), judged([written, shadow], sent)
    measures = labels(without) & labels(beside)
    assert [enforced(one, measures) for one in without] == [enforced(one, measures) for one in beside]


@SETTINGS
@given(written=ENFORCED, shadow=packs("s", (Mode.SHADOW,), broken=True, most=8), sent=exchanges())
def test_shadow_rules_change_nothing_however_the_program_is_cut(written: Plain, shadow: Plain, sent: Any) -> None:
    """Shadow rules share leaves, parts and indexes of the compiled program with enforced ones, and nothing else."""
    without = judged([written], sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "_INDEXED", 2)
        patch.setattr(emit, "_WHOLE", 2)
        patch.setattr(emit, "_PART", 2)
        beside = judged([written, shadow], sent)
    measures = labels(without) & labels(beside)
    assert [enforced(one, measures) for one in without] == [enforced(one, measures) for one in beside]


@SETTINGS
@given(data=st.data(), written=ENFORCED, shadow=SHADOW, sent=exchanges())
def test_removing_or_switching_off_a_shadow_rule_changes_nothing_that_is_enforced(
    data: st.DataObject, written: Plain, shadow: Plain, sent: Any
) -> None:
    gone = data.draw(st.sampled_from(shadow["rules"]))
    fewer = {**shadow, "rules": [rule for rule in shadow["rules"] if rule is not gone], "limits": []}
    off = {**shadow, "rules": [{**rule, "mode": "off"} if rule is gone else rule for rule in shadow["rules"]]}
    before = judged([written, shadow], sent)
    for other in (fewer, off):
        after = judged([written, other], sent)
        common = labels(before) & labels(after)
        assert [enforced(one, common) for one in before] == [enforced(one, common) for one in after]


@SETTINGS
@given(written=packs("p", (Mode.ENFORCE, Mode.SHADOW), throttles=False), sent=exchanges())
def test_the_would_be_decision_is_the_one_that_enforcing_everything_makes(written: Plain, sent: Any) -> None:
    whole = [{key: value for key, value in rule.items() if key != "share"} for rule in written["rules"]]
    everything = {**written, "rules": [{**rule, "mode": "enforce"} for rule in whole]}
    for here, there in zip(judged([written], sent), judged([everything], sent), strict=True):
        assert here.outcome.decision.would == there.outcome.decision.action == there.outcome.decision.would
        assert [(end.rule, end.would) for end in here.outcome.decision.ends] == [
            (end.rule, end.action) for end in there.outcome.decision.ends
        ]
        assert here.outcome.would == there.outcome.action
        assert [end.would_ask for end in here.outcome.decision.ends] == [end.asks for end in there.outcome.decision.ends]


@SETTINGS
@given(written=packs("p", (Mode.ENFORCE, Mode.SHADOW), broken=True), sent=exchanges())
def test_shadow_over_all_passes_everything(written: Plain, sent: Any) -> None:
    for judgement in judged([written], sent, mode=Mode.SHADOW):
        outcome = judgement.outcome
        assert (outcome.action, outcome.refusal, outcome.tags, outcome.delay, outcome.headers) == (
            Action.ALLOW,
            None,
            (),
            0,
            (),
        )
        assert outcome.asked == ()
        assert outcome.decision.action is Action.ALLOW
        assert all(room.shadow for room in outcome.rooms)


@SETTINGS
@given(written=packs("p", (Mode.ENFORCE, Mode.SHADOW), throttles=False), sent=exchanges())
def test_shadow_over_all_says_what_enforcing_would_do(written: Plain, sent: Any) -> None:
    for below, plain in zip(judged([written], sent, mode=Mode.SHADOW), judged([written], sent), strict=True):
        assert below.outcome.decision.would == plain.outcome.decision.would


def pack(*rules: str, name: str = "p", limits: str = "[]") -> str:
    return f"pack: {name}\nversion: 1\nlanguage: 1\nrules: [{', '.join(rules)}]\nlimits: {limits}\n"


def rule(name: str, when: str, then: str, mode: str, family: str = "network", more: str = "") -> str:
    return f"{{id: {name}, title: t, family: {family}, owner: o, when: {when}, then: {then}, mode: {mode}{more}}}"


THROTTLE = "{action: throttle, limit: 3/minute, per: [account.id]}"
ANY = "{account.id: {present: true}}"


def actions(mode: str, *more: str, limits: str = "[]") -> list[tuple[str, str]]:
    """Would-be and enforced action of ten requests by one account, one a second, under one throttle of three a minute."""
    gate = Gate(policy(pack(rule("p.throttle", ANY, THROTTLE, mode), *more, limits=limits)), CATALOGUE)
    found = [judge(gate, {"account.id": "a", "request.n": n}, START + n * SECOND).outcome for n in range(10)]
    return [(str(outcome.decision.would), str(outcome.action)) for outcome in found]


def test_the_numbers_of_a_shadow_throttle_are_those_of_the_enforced_one() -> None:
    assert [would for would, _ in actions("shadow")] == [action for _, action in actions("enforce")]
    assert [would for would, _ in actions("shadow")] == ["observe"] * 3 + ["throttle"] * 7
    assert {action for _, action in actions("shadow")} == {"allow"}


def test_a_request_that_is_denied_anyway_takes_nothing_from_a_shadow_throttle() -> None:
    denied = rule("p.deny", "{request.n: {lt: 5}}", "{action: deny}", "enforce")
    assert [would for would, _ in actions("shadow", denied)] == ["deny"] * 5 + ["observe"] * 3 + ["throttle"] * 2


def test_a_request_that_shadow_would_deny_takes_nothing_from_a_shadow_throttle() -> None:
    denied = rule("p.deny", "{request.n: {lt: 5}}", "{action: deny}", "shadow")
    assert [would for would, _ in actions("shadow", denied)] == ["deny"] * 5 + ["observe"] * 3 + ["throttle"] * 2
    assert {action for _, action in actions("shadow", denied)} == {"allow"}


def test_a_request_over_its_plan_takes_nothing_from_a_shadow_throttle() -> None:
    plan = "[{id: p.plan, per: [account.id], limit: 2/5s, on_missing: skip, mode: enforce}]"
    found = actions("shadow", limits=plan)
    admitted = [would for would, action in found if action == "allow"]
    assert admitted == ["observe"] * 3 + ["throttle"] * (len(admitted) - 3)
    assert len(admitted) in (4, 5)


CORROBORATED = ", corroborate: {families: 2, within: 1m, per: [account.id], else: observe}"


def test_a_shadow_corroborator_moves_the_would_be_view_only_and_its_numbers_are_true() -> None:
    def wanted(mode: str) -> list[tuple[str, str]]:
        throttle = rule("p.throttle", ANY, THROTTLE, "enforce", "client", CORROBORATED)
        other = rule("p.other", ANY, "{action: observe}", mode, "identity")
        gate = Gate(policy(pack(throttle, other)), CATALOGUE)
        found = [judge(gate, {"account.id": "a"}, START + n * SECOND).outcome for n in range(6)]
        return [(str(outcome.action), str(outcome.decision.would)) for outcome in found]

    assert wanted("shadow") == [("observe", "observe")] * 3 + [("observe", "throttle")] * 3
    assert wanted("enforce") == [("observe", "observe")] * 3 + [("throttle", "throttle")] * 3
    assert wanted("off") == [("observe", "observe")] * 6


def test_a_throttle_that_is_corroborated_now_and_then_counts_both_views_in_full() -> None:
    """Every second request is corroborated by an enforced rule, all by a shadow one: two counters, two truths."""
    throttle = rule("p.throttle", ANY, THROTTLE, "enforce", "client", CORROBORATED.replace("1m", "8s"))
    now_and_then = rule("p.even", "{client.country: NO}", "{action: observe}", "enforce", "identity")
    always = rule("p.always", ANY, "{action: observe}", "shadow", "network")
    gate = Gate(policy(pack(throttle, now_and_then, always)), CATALOGUE)
    start = START - START % (60 * SECOND)
    found = []
    for n in range(6):
        values = {"account.id": "a"} | ({"client.country": "NO"} if n % 2 == 0 else {})
        found.append(judge(gate, values, start + n * 9 * SECOND).outcome)
    assert [str(outcome.action) for outcome in found] == ["observe"] * 6, "three were corroborated, and three had room"
    assert [str(outcome.decision.would) for outcome in found] == ["observe"] * 3 + ["throttle"] * 3


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.SHADOW])
def test_a_shadow_limit_refuses_nobody_and_is_not_published(mode: Mode) -> None:
    plan = "[{id: p.plan, per: [account.id], limit: 1/minute, on_missing: refuse, mode: shadow}]"
    gate = Gate(policy(pack(limits=plan)), CATALOGUE, mode=mode)
    found = [judge(gate, values, START + n).outcome for n, values in enumerate([{"account.id": "a"}, {"account.id": "a"}, {}])]
    assert [(outcome.refusal, outcome.headers) for outcome in found] == [(None, ())] * 3
    assert [str(outcome.would) for outcome in found[:2]] == ["allow", "throttle"]
    assert [room.shadow for outcome in found for room in outcome.rooms] == [True, True]


@pytest.mark.parametrize("broken", [Failed("it broke"), WRONG])
def test_a_broken_shadow_rule_ends_as_error_and_stops_there(broken: object) -> None:
    found = policy(
        pack(
            rule("p.broken", "{request.n: {gte: 1}}", "{action: deny}", "shadow"),
            rule("p.tag", ANY, "{action: tag, tag: t}", "enforce"),
        )
    )
    outcome = Gate(found, CATALOGUE).judge(facts(Sent({"account.id": "a", "request.n": broken}, 0, 200), START)).outcome
    assert [(end.rule, end.verdict) for end in outcome.decision.ends] == [("p.broken", Verdict.ERROR), ("p.tag", Verdict.MATCH)]
    assert (outcome.tags, outcome.refusal, outcome.decision.would) == (("t",), None, Action.TAG)


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
@pytest.mark.parametrize("cause", [Cause.BODY_MALFORMED, Cause.MEDIA_TYPE, Cause.BODY_ENCODING])
def test_below_an_overall_shadow_nothing_is_refused_that_could_pass(mode: Mode, cause: Cause) -> None:
    gate = Gate(policy("pack: t\nversion: 1\nlanguage: 1\n"), CATALOGUE, mode=mode)
    outcome = gate.judge(Facts(at=START, cause=cause)).outcome
    assert (outcome.refusal, outcome.action, outcome.would) == (None, Action.ALLOW, Action.DENY)


def test_what_cannot_be_passed_on_is_refused_in_shadow_too() -> None:
    gate = Gate(policy("pack: t\nversion: 1\nlanguage: 1\n"), CATALOGUE, mode=Mode.SHADOW)
    refusal = gate.judge(Facts(at=START, cause=Cause.BODY_TOO_LARGE)).outcome.refusal
    assert refusal is not None
    assert refusal.status == 413


def test_a_shadow_limit_without_its_key_refuses_in_the_would_view_only() -> None:
    limit = "limits: [{id: t.limit, per: [account.id], limit: 1/minute, on_missing: refuse, mode: shadow}]\n"
    gate = Gate(policy("pack: t\nversion: 1\nlanguage: 1\n" + limit), CATALOGUE)
    outcome = gate.judge(Facts(at=START)).outcome
    assert (outcome.refusal, outcome.action, outcome.would) == (None, Action.ALLOW, Action.DENY)


def test_a_shadow_limit_counts_nothing_of_what_shadow_rules_would_refuse() -> None:
    written = """
pack: t
version: 1
language: 1
rules:
  - {id: t.deny, title: t, family: identity, owner: t, when: {client.country: KP}, then: {action: deny}, mode: shadow}
limits:
  - {id: t.limit, per: [request.method], limit: 2/minute, on_missing: skip, mode: shadow}
"""
    gate = Gate(policy(written), CATALOGUE)
    found = [judge(gate, {"request.method": "POST", "client.country": c}).outcome.would for c in ("KP", "KP", "FR", "FR", "FR")]
    assert found == [Action.DENY, Action.DENY, Action.ALLOW, Action.ALLOW, Action.THROTTLE]


# Shared state that does not answer: a trip that only shadow rules need may fail, and nobody is refused for it


class Lossy:
    """Shared state on the other side of a line that loses the batches it is told to: the first trip's, or the throttles'."""

    local = False

    def __init__(self) -> None:
        self.memory, self.lost = MemoryState(), frozenset[str]()

    async def apply(self, batch: Batch) -> Reply:
        takes = [*batch.takes, *batch.shadow_takes]
        trip = "second" if takes and all(take.limit.id.startswith("rule:") for take in takes) else "first"
        if trip in self.lost:
            raise StateError(f"the {trip} trip was lost")
        return self.memory.apply(batch)

    async def later(self, batch: Batch) -> Reply:
        return await self.apply(batch)

    def health(self) -> dict[str, object]:
        return {}


async def judged_with_losses(
    written: Sequence[Plain], sent: Sequence[Sent], losses: Sequence[frozenset[str]], fail: Fail
) -> list[Judgement]:
    """Every exchange judged with its losses and settled without any."""
    state, at, found = Lossy(), START, []
    in_force = policy(*map(text, written), text(WORKLOADS))
    gate = Gate(
        in_force,
        CATALOGUE,
        state=state,
        fail=FailModes(dependencies={Dependency.STATE: fail}),
        ids=lambda facts: "id",
        timer=lambda: 0,
    )
    for one, lost in zip(sent, losses, strict=False):
        at += one.after * SECOND
        state.lost = lost
        judgement = await gate.judge_remote(facts(one, at))
        state.lost = frozenset()
        await gate.settle_remote(judgement, Answer(one.status))
        found.append(judgement)
    return found


LOSSES = st.sampled_from([frozenset[str](), frozenset({"first"}), frozenset({"second"}), frozenset({"first", "second"})])


@SETTINGS
@given(
    written=packs("p", (Mode.ENFORCE,), most=2),
    shadow=SHADOW,
    sent=exchanges(),
    losses=st.lists(LOSSES, min_size=12, max_size=12),
    fail=st.sampled_from(Fail),
)
def test_trips_that_fail_change_nothing_for_the_enforced_that_they_do_not_change_without_shadow_rules(
    written: Plain, shadow: Plain, sent: Any, losses: list[frozenset[str]], fail: Fail
) -> None:
    without = asyncio.run(judged_with_losses([written], sent, losses, fail))
    beside = asyncio.run(judged_with_losses([written, shadow], sent, losses, fail))
    measures = labels(without) & labels(beside)
    assert [enforced(one, measures) for one in without] == [enforced(one, measures) for one in beside]


MEASURED = ", measures: {n: {count: true, per: [account.id], window: 1m}}"
SHADOWY = {
    "a throttle": (rule("s.r", ANY, THROTTLE, "shadow"), "[]", "second"),
    "a measure": (rule("s.r", "{n: {gt: 5}}", "{action: deny}", "shadow", more=MEASURED), "[]", "first"),
    "corroboration": (rule("s.r", ANY, "{action: deny}", "shadow", more=CORROBORATED), "[]", "first"),
    "a limit": ("", "[{id: s.l, per: [account.id], limit: 9/minute, on_missing: skip, mode: shadow}]", "first"),
    "slots": ("", "[{id: s.l, per: [account.id], limit: 9 concurrent, on_missing: skip, mode: shadow}]", "first"),
}
ENFORCED_TAG = rule("p.tag", ANY, "{action: tag, tag: t}", "enforce")


def lossy(*packs_: str, lost: str, fail: Fail = Fail.CLOSED) -> Judgement:
    state = Lossy()
    state.lost = frozenset({lost})
    gate = Gate(policy(*packs_), CATALOGUE, state=state, fail=FailModes(dependencies={Dependency.STATE: fail}))
    return asyncio.run(gate.judge_remote(facts(Sent({"account.id": "a"}, 0, 200), START)))


@pytest.mark.parametrize("what", list(SHADOWY))
def test_a_trip_for_shadow_rules_alone_refuses_nobody_and_is_told(what: str) -> None:
    shadow, limits, lost = SHADOWY[what]
    judgement = lossy(pack(ENFORCED_TAG), pack(*filter(None, [shadow]), name="s", limits=limits), lost=lost)
    outcome = judgement.outcome
    assert (outcome.action, outcome.refusal, outcome.tags) == (Action.TAG, None, ("t",))
    assert (outcome.would, outcome.state_error) == (Action.DENY, f"the {lost} trip was lost")
    open_ = lossy(pack(ENFORCED_TAG), pack(*filter(None, [shadow]), name="s", limits=limits), lost=lost, fail=Fail.OPEN).outcome
    assert (open_.refusal, open_.state_error) == (None, f"the {lost} trip was lost")
    assert open_.would < Action.VERIFY


@pytest.mark.parametrize("what", list(SHADOWY))
def test_the_same_trip_for_something_enforced_refuses(what: str) -> None:
    shadow, limits, lost = SHADOWY[what]
    enforced_ = [part.replace("mode: shadow", "mode: enforce") for part in (shadow, limits)]
    outcome = lossy(pack(ENFORCED_TAG), pack(*filter(None, enforced_[:1]), name="s", limits=enforced_[1]), lost=lost).outcome
    assert outcome.refusal is not None
    assert (outcome.refusal.status, outcome.refusal.by) == (503, ("state",))


def test_an_enforced_throttle_is_asked_although_the_trip_of_a_shadow_measure_failed() -> None:
    state = Lossy()
    shadow = rule("s.r", "{n: {gt: 5}}", "{action: deny}", "shadow", more=MEASURED)
    gate = Gate(policy(pack(rule("p.r", ANY, THROTTLE, "enforce"), shadow.replace("s.r", "p.s"))), CATALOGUE, state=state)
    state.lost = frozenset({"first"})

    async def use() -> list[Action]:
        return [(await gate.judge_remote(facts(Sent({"account.id": "a"}, 0, 200), START + n))).outcome.action for n in range(5)]

    assert asyncio.run(use()) == [Action.OBSERVE] * 3 + [Action.THROTTLE] * 2


ASLEEP = [(Mode.SHADOW, Mode.ENFORCE), (Mode.OFF, Mode.ENFORCE), (Mode.ENFORCE, Mode.SHADOW)]


@pytest.mark.parametrize(("mode", "overall"), ASLEEP)
def test_only_what_is_enforced_asks_a_caller_to_declare(mode: Mode, overall: Mode) -> None:
    asking = pack(rule("p.ask", ANY, "{action: observe, ask: relay}", str(mode), more=", abstain_for: [relay]"))
    outcome = judge(Gate(policy(asking), CATALOGUE, mode=overall), {"account.id": "a"}).outcome
    assert outcome.asked == ()
    enforced_ = judge(Gate(policy(asking.replace(f"mode: {mode}", "mode: enforce")), CATALOGUE), {"account.id": "a"}).outcome
    assert [(one.kind, one.by) for one in enforced_.asked] == [("relay", ("p.ask",))]
