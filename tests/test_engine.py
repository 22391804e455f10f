"""The engine's own semantics, through the real gate: corroboration, steps, exceptions, throttles, plan limits."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.decision import Action, Outcome, Restriction, RuleEnd
from gateway.gate import Gate
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, judge, policy

ACCOUNT = "{account.id: {present: true}}"
GRID = START - START % (3_600 * SECOND)


def rule(name: str, when: str, then: str, family: str = "network", more: str = "", mode: str = "enforce") -> str:
    return f"{{id: {name}, title: t, family: {family}, owner: o, when: {when}, then: {then}, mode: {mode}{more}}}"


def gate(*rules: str, limits: str = "[]") -> Gate:
    return Gate(policy(f"pack: p\nversion: 1\nlanguage: 1\nrules: [{', '.join(rules)}]\nlimits: {limits}\n"), CATALOGUE)


def outcome(gate: Gate, at: int = GRID, **values: Any) -> Outcome:
    """The outcome of one exchange; `account_id` stands for `account.id`."""
    return judge(gate, {name.replace("_", ".", 1): value for name, value in values.items()}, at).outcome


def end(found: Outcome, name: str) -> RuleEnd:
    return next(end for end in found.decision.ends if end.rule == name)


# corroboration: a client rule that denies once another family agrees about the account

NEEDS = ", corroborate: {families: 2, within: 8m, per: [account.id], else: observe}"
CLIENT = rule("p.client", "{request.stream: true}", "{action: deny}", "client", NEEDS)
PLACE = rule("p.place", "{client.country: NO}", "{action: observe}", "network")
MINUTE = 60 * SECOND


def test_another_family_in_the_same_request_corroborates() -> None:
    judging = gate(CLIENT, PLACE)
    assert outcome(judging, account_id="a", request_stream=True).action is Action.OBSERVE
    found = outcome(judging, account_id="a", request_stream=True, client_country="NO")
    assert (found.action, end(found, "p.client").corroborated) == (Action.DENY, ("network",))


@pytest.mark.parametrize(
    ("later", "account", "action"),
    [
        (1, "a", Action.DENY),
        (7 * MINUTE - 1, "a", Action.DENY),
        (8 * MINUTE, "a", Action.OBSERVE),
        (1, "b", Action.OBSERVE),
    ],
)
def test_an_earlier_request_of_the_same_key_corroborates_for_a_time(later: int, account: str, action: Action) -> None:
    judging = gate(CLIENT, PLACE)
    outcome(judging, account_id="a", client_country="NO")
    assert outcome(judging, GRID + later, account_id=account, request_stream=True).action is action


def test_without_the_key_nothing_earlier_corroborates() -> None:
    judging = gate(CLIENT, PLACE)
    outcome(judging, client_country="NO")
    assert outcome(judging, request_stream=True).action is Action.OBSERVE


def test_a_rule_of_the_same_family_does_not_corroborate() -> None:
    judging = gate(CLIENT, rule("p.also", "{client.country: NO}", "{action: observe}", "client"))
    assert outcome(judging, account_id="a", request_stream=True, client_country="NO").action is Action.OBSERVE
    assert outcome(judging, account_id="a", request_stream=True).action is Action.OBSERVE


def test_families_counts_the_rules_own() -> None:
    third = rule("p.who", "{account.plan: free}", "{action: observe}", "identity")
    judging = gate(CLIENT.replace("families: 2", "families: 3"), PLACE, third)
    values: dict[str, Any] = {"account_id": "a", "request_stream": True, "client_country": "NO"}
    assert outcome(judging, **values).action is Action.OBSERVE
    found = outcome(judging, **values, account_plan="free")
    assert (found.action, end(found, "p.client").corroborated) == (Action.DENY, ("identity", "network"))


def test_an_excepted_match_does_not_corroborate_now_or_later() -> None:
    excepted = (
        ", exceptions: {ours: {fields: [client.country], entries: [{values: [NO], reason: r, owner: o, expires: 2030-01-01}]}}"
    )
    judging = gate(CLIENT, PLACE.replace(", mode", excepted + ", mode"))
    found = outcome(judging, account_id="a", request_stream=True, client_country="NO")
    assert (found.action, end(found, "p.place").excepted) == (Action.OBSERVE, "ours")
    assert outcome(judging, GRID + 1, account_id="a", request_stream=True).action is Action.OBSERVE


def test_a_downgraded_match_corroborates_all_the_same() -> None:
    """All conditions first, then all corroboration: two rules that need each other both act, whatever their order."""
    other = rule("p.a", "{client.country: NO}", "{action: verify}", "network", NEEDS)
    found = outcome(gate(CLIENT, other), account_id="a", request_stream=True, client_country="NO")
    assert (end(found, "p.a").action, end(found, "p.client").action) == (Action.VERIFY, Action.DENY)


def test_a_shadow_match_corroborates_the_would_be_view_only() -> None:
    judging = gate(CLIENT, PLACE.replace("mode: enforce", "mode: shadow"))
    found = outcome(judging, account_id="a", request_stream=True, client_country="NO")
    assert (found.decision.action, found.decision.would, found.refusal) == (Action.OBSERVE, Action.DENY, None)
    later = outcome(judging, GRID + 1, account_id="a", request_stream=True)
    assert (later.decision.action, later.decision.would) == (Action.OBSERVE, Action.DENY)


def test_else_never_strengthens() -> None:
    weak = rule(
        "p.client", "{request.stream: true}", "{action: observe}", "client", NEEDS.replace("else: observe", "else: tag")
    )
    found = outcome(gate(weak), account_id="a", request_stream=True)
    assert (found.action, found.tags) == (Action.OBSERVE, ())
    strong = rule("p.client", "{request.stream: true}", "{action: deny}", "client", NEEDS.replace("else: observe", "else: tag"))
    found = outcome(gate(strong), account_id="a", request_stream=True)
    assert (found.action, found.tags) == (Action.TAG, ("uncorroborated",))


# steps

STEPS = "{of: n, steps: [{from: 2, action: tag, tag: some}, {from: 4, action: verify}, {from: 5, action: deny}]}"
COUNTED = ", measures: {n: {distinct: request.path, per: [account.id], window: 1h, cap: 5}}"


def test_steps_are_half_open_and_below_the_first_is_observe() -> None:
    judging = gate(rule("p.r", "{n: {gte: 1}}", STEPS, more=COUNTED))
    found = [end(outcome(judging, account_id="a", request_path=f"/{n}"), "p.r") for n in range(7)]
    assert [str(end.action) for end in found] == ["observe", "tag", "tag", "verify", "deny", "deny", "deny"]
    assert [end.step for end in found] == [None, 0, 0, 1, 2, 2, 2], "the last two read «at least 5»"


def test_steps_of_a_duration_are_written_as_durations() -> None:
    steps = "{of: n, steps: [{from: 60s, action: tag, tag: long}, {from: 2m, action: deny}]}"
    judging = gate(
        rule("p.r", "{n: {gte: 1s}}", steps, more=", measures: {n: {sum: account.age, per: [account.id], window: 1h}}")
    )
    assert [str(outcome(judging, account_id="a", account_age="40s").action) for _ in range(3)] == ["observe", "tag", "deny"]


# exceptions

EXCEPTED = (
    ", exceptions: {b_named: {fields: [account.id, client.json_style], entries: ["
    "{values: [a, [x, y]], reason: r, owner: o, expires: 2026-11-01T01:00:00Z}]}, "
    "a_place: {fields: [client.country], entries: [{values: [NO], reason: r, owner: o, expires: 2030-01-01}]}}"
)
DENY = rule("p.deny", ACCOUNT, "{action: deny}", more=EXCEPTED)
NOVEMBER = 1_793_491_200 * SECOND


@pytest.mark.parametrize(
    ("values", "at", "excepted"),
    [
        ({"client_json_style": ["y", "x"]}, NOVEMBER, "b_named"),
        ({"client_json_style": ["y", "x"]}, NOVEMBER + 3_600 * SECOND - 1, "b_named"),
        ({"client_json_style": ["y", "x"]}, NOVEMBER + 3_600 * SECOND, ""),
        ({"client_json_style": ["x"]}, NOVEMBER, ""),
        ({}, NOVEMBER, ""),
        ({"client_country": "NO"}, NOVEMBER, "a_place"),
        ({"client_country": "NO", "client_json_style": ["y", "x"]}, NOVEMBER, "a_place"),
    ],
)
def test_exceptions_are_recorded_and_expire(values: dict[str, Any], at: int, excepted: str) -> None:
    found = outcome(gate(DENY), at, account_id="a", **values)
    assert end(found, "p.deny").excepted == excepted
    assert (found.action, found.decision.would) == ((Action.ALLOW,) * 2 if excepted else (Action.DENY,) * 2)


def test_an_exception_belongs_to_its_rule_alone() -> None:
    found = outcome(gate(DENY, rule("p.verify", ACCOUNT, "{action: verify}")), account_id="a", client_country="NO")
    assert (found.action, [end.rule for end in found.decision.matches()]) == (Action.VERIFY, ["p.deny", "p.verify"])


# throttles

SMALL = rule("p.small", ACCOUNT, "{action: throttle, limit: 2/minute, per: [account.id]}")
LARGE = rule("p.large", ACCOUNT, "{action: throttle, limit: 4/hour, per: [account.org]}")


def test_all_throttles_are_looked_at_before_any_is_taken() -> None:
    judging = gate(SMALL, LARGE)
    found = [outcome(judging, account_id="a", account_org="o") for _ in range(5)]
    assert [one.refusal.by if one.refusal else () for one in found] == [(), (), *[("p.small",)] * 3]
    rest = [outcome(judging, account_id="b", account_org="o") for _ in range(3)]
    assert [one.refusal.by if one.refusal else () for one in rest] == [(), (), ("p.large", "p.small")], (
        "four were taken, not seven"
    )
    assert outcome(judging, account_id="c", account_org="o").refusal is not None


def test_a_throttle_with_room_yields_to_the_next_strongest() -> None:
    judging = gate(
        SMALL, rule("p.tag", ACCOUNT, "{action: tag, tag: seen}"), rule("p.delay", ACCOUNT, "{action: delay, hold: 1s}")
    )
    found = [outcome(judging, account_id="a") for _ in range(3)]
    assert [(one.action, one.tags, one.delay) for one in found] == [
        (Action.DELAY, ("seen",), SECOND),
        (Action.DELAY, ("seen",), SECOND),
        (Action.THROTTLE, (), 0),
    ]
    assert [str(end(one, "p.small").action) for one in found] == ["observe", "observe", "throttle"]


def test_a_throttle_without_its_key_takes_nothing_and_shares_nothing() -> None:
    judging = gate(rule("p.r", "{request.stream: true}", "{action: throttle, limit: 1/minute, per: [account.id]}"))
    assert [outcome(judging, request_stream=True).refusal for _ in range(3)] == [None] * 3


def test_a_denied_request_takes_nothing() -> None:
    judging = gate(SMALL, rule("p.deny", "{request.stream: true}", "{action: deny}"))
    for _ in range(5):
        assert outcome(judging, account_id="a", request_stream=True).action is Action.DENY
    assert [outcome(judging, account_id="a").refusal is None for _ in range(3)] == [True, True, False]


def test_a_throttled_answer_says_when_to_come_back_and_publishes_no_quota() -> None:
    judging = gate(SMALL)
    found = [outcome(judging, GRID + n * SECOND, account_id="a") for n in (0, 10, 20)]
    assert found[2].refusal is not None
    assert (found[2].refusal.status, found[2].refusal.retry_after) == (429, 40)
    assert [one.headers for one in found] == [()] * 3


# plan limits

PLAN = (
    "[{id: p.minute, per: [account.id], limit: 3/minute, on_missing: skip, mode: enforce}, "
    "{id: p.day, per: [account.org], limit: 5/day, on_missing: skip, mode: enforce}]"
)


def test_plan_limits_are_published_with_what_is_left() -> None:
    judging = gate(limits=PLAN)
    found = [outcome(judging, GRID + n * SECOND, account_id="a", account_org="o") for n in range(4)]
    assert found[0].headers == (
        ("ratelimit-policy", '"p.day";q=5;w=86400, "p.minute";q=3;w=60'),
        ("ratelimit", f'"p.day";r=4;t={86_400 - GRID // SECOND % 86_400}, "p.minute";r=2;t=60'),
    )
    assert [dict(one.headers)["ratelimit"].partition('"p.minute";')[2] for one in found] == [
        "r=2;t=60",
        "r=1;t=59",
        "r=0;t=58",
        "r=0;t=57",
    ]
    assert [one.refusal is None for one in found] == [True, True, True, False]
    assert found[3].refusal is not None
    assert (found[3].refusal.by, found[3].refusal.retry_after, found[3].refusal.public.code) == (
        ("p.minute",),
        57,
        "rate-limited",
    )
    assert '"p.day";r=2' in dict(found[3].headers)["ratelimit"], "a refused request took nothing of the day"
    assert outcome(judging, account_org="o").headers[0][1] == '"p.day";q=5;w=86400', "a limit without its key is skipped"


@pytest.mark.parametrize(
    "refusing", ["{action: deny}", "{action: verify}", "{action: throttle, limit: 1/day, per: [request.path]}"]
)
def test_a_request_that_a_rule_refuses_gives_its_plan_back(refusing: str) -> None:
    judging = gate(rule("p.r", "{request.path: /x}", refusing), limits=PLAN)
    if "throttle" in refusing:
        outcome(judging, account_id="other", account_org="other", request_path="/x")
    for _ in range(5):
        assert outcome(judging, account_id="a", account_org="o", request_path="/x").refusal is not None
    found = outcome(judging, account_id="a", account_org="o")
    assert found.refusal is None
    assert {room.limit: room.remaining for room in found.rooms} == {"p.minute": 2, "p.day": 4}


def test_a_request_over_its_plan_takes_no_rule_throttle() -> None:
    judging = gate(SMALL.replace("2/minute", "4/hour"), limits=PLAN)
    for _ in range(9):
        outcome(judging, account_id="a", account_org="o")
    later = GRID + MINUTE
    assert [outcome(judging, later, account_id="a", account_org="p").refusal is None for _ in range(2)] == [True, False], (
        "three, then one"
    )


# composition


def test_the_strongest_wins_and_ties_keep_every_reason() -> None:
    rules = [
        rule(f"p.{name}", ACCOUNT, then)
        for name, then in (
            ("b", "{action: deny, status: 451}"),
            ("a", "{action: deny}"),
            ("c", "{action: verify}"),
            ("d", "{action: tag, tag: t}"),
        )
    ]
    found = outcome(gate(*rules), account_id="a")
    assert found.refusal is not None
    assert (found.action, found.refusal.by, found.refusal.status, found.tags) == (Action.DENY, ("p.a", "p.b"), 403, ())
    assert [(end.rule, str(end.action)) for end in found.decision.matches()] == [
        ("p.a", "deny"),
        ("p.b", "deny"),
        ("p.c", "verify"),
        ("p.d", "tag"),
    ]


def test_tags_accumulate_and_the_longest_delay_holds() -> None:
    rules = [
        rule(f"p.{n}", ACCOUNT, then)
        for n, then in enumerate(
            (
                "{action: tag, tag: b}",
                "{action: tag, tag: a}",
                "{action: tag, tag: b}",
                "{action: delay, hold: 1s}",
                "{action: delay, hold: 3s}",
            )
        )
    ]
    found = outcome(gate(*rules), account_id="a")
    assert (found.action, found.tags, found.delay) == (Action.DELAY, ("a", "b"), 3 * SECOND)


def test_verify_has_a_code_of_its_own_and_refusals_show_no_quota_they_did_not_use() -> None:
    written = """
pack: v
version: 1
language: 1
rules:
  - {id: v.verify, title: v, family: identity, owner: v, when: {request.model: m}, then: {action: verify, link: "https://x.example"}, mode: enforce}
limits:
  - {id: v.limit, per: [request.method], limit: 5/minute, on_missing: skip, mode: enforce}
"""  # noqa: E501
    gate = Gate(policy(written), CATALOGUE)
    refused = judge(gate, {"request.method": "POST", "request.model": "m"}).outcome
    assert refused.refusal is not None
    assert (refused.refusal.status, refused.refusal.public.code) == (403, "verification-required")
    assert refused.refusal.link == "https://x.example"
    assert refused.headers == ()
    passed = judge(gate, {"request.method": "POST", "request.model": "other"}).outcome
    assert '"v.limit";r=4;' in dict(passed.headers)["ratelimit"]


def test_a_throttle_that_has_nobody_to_count_by_yields_and_says_what_it_lacked() -> None:
    judging = gate(rule("p.r", "{request.stream: true}", "{action: throttle, limit: 1/minute, per: [account.id, client.ip]}"))
    for _ in range(2):
        outcome = judge(judging, {"request.stream": True, "account.id": "a"}).outcome
        (end,) = outcome.decision.ends
        assert (str(end.verdict), end.action, end.missing) == ("match", Action.OBSERVE, ("client.ip",))
        assert outcome.rooms == ()


def test_restrictions_of_several_rules_hold_together_and_one_that_takes_nothing_yields() -> None:
    judging = gate(
        rule("p.a", ACCOUNT, "{action: restrict, to: {max_tokens: 50, n: 3}}"),
        rule("p.b", ACCOUNT, "{action: restrict, to: {max_tokens: 20}}"),
        rule("p.c", ACCOUNT, "{action: restrict, to: {max_tokens: 90}}"),
    )

    def found(**asked: int) -> tuple[Action, Restriction | None]:
        sent = {"account.id": "a", "request.operation": "chat", **{f"request.{name}": value for name, value in asked.items()}}
        judged = judge(judging, sent).outcome
        return judged.action, judged.restriction

    assert found(max_tokens=100, n=5) == (Action.RESTRICT, Restriction(max_tokens=20, n=3))
    assert found(max_tokens=90) == (Action.RESTRICT, Restriction(max_tokens=20))
    assert found(max_tokens=21, n=3) == (Action.RESTRICT, Restriction(max_tokens=20))
    assert found(max_tokens=20, n=4) == (Action.RESTRICT, Restriction(n=3))
    assert found(max_tokens=20, n=3) == (Action.OBSERVE, None)
    assert found() == (Action.RESTRICT, Restriction(max_tokens=20))
