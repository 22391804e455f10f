"""What a rule's names stand for on one exchange: signals, measures, keys, exemptions, steps.

The engine decides with these functions and explanations, spans and rule tests tell with the same ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from hashlib import blake2b

from gateway.decision import Mode, Restriction
from gateway.declarations import standing_of
from gateway.facts import Answer, End
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import PlanLimit, Price, Rule
from gateway.language.program import NOT_COUNTED, ratio
from gateway.signals import View
from gateway.state.operations import METERED, Count, Unit, joined
from gateway.values import AtLeast, Failed, Missing


def labels_of(measure: Measure | Ratio) -> tuple[str, ...]:
    """The labels that a declared measure reads: its own, or those of a ratio's two parts."""
    return (measure.over.label, measure.under.label) if isinstance(measure, Ratio) else (measure.label,)


def key_of(names: tuple[str, ...], view: View) -> tuple[str, ...] | Missing | Failed:
    """The key under these signals, or what it lacks: a missing part never becomes one shared bucket."""
    parts = []
    for name in names:
        value = view.get(name)
        if isinstance(value, (Missing, Failed)):
            return type(value)(f"no {name}: {value.reason}")
        if not isinstance(value, (str, int, float, frozenset)):
            return Failed(f"no {name}: {type(value).__name__} is no key")
        parts.append(_text(value))
    return tuple(parts)


def _text(value: object) -> str:
    return joined(tuple(sorted(map(str, value)))) if isinstance(value, frozenset) else str(value)


def rule_values(rule: Rule, view: View, measured: dict[str, object]) -> Callable[[str], object]:
    """The values a rule's names stand for: its own measures first, then signals."""

    def values(name: str) -> object:
        declared = rule.measures.get(name)
        if declared is None:
            return view.get(name)
        if isinstance(declared, Ratio):
            return ratio(*(measured.get(label, NOT_COUNTED) for label in labels_of(declared)))
        return measured.get(declared.label, NOT_COUNTED)

    return values


def counted(measure: Measure, view: View) -> int | str | Failed | None:
    """What a measure counts of this exchange; None when it only looks."""
    if not passes(measure, view):
        return None
    value = 1 if measure.of is None else amount_of(measure, view)
    return None if isinstance(value, Missing) else value


def passes(measure: Measure, view: View) -> bool:
    """Whether an exchange is one of those that a measure counts: an unknown filter lets nothing through."""
    return measure.where is None or measure.where.evaluate(view.get) is True


def amount_of(measure: Measure, view: View) -> int | str | Missing | Failed:
    """The value of what a measure counts: a number where it adds up, else a text."""
    value = view.get(measure.of or "")
    if isinstance(value, (Missing, Failed)) or (measure.window.kind in (Count.SUM, Count.QUANTILE) and isinstance(value, int)):
        return value
    return _text(value)


_CHARACTERS_PER_TOKEN = 4
_FREE, _EMBEDDINGS = "count_tokens", "embeddings"
_BROKEN = frozenset({End.CLIENT_GONE, End.UPSTREAM_CUT, End.STOPPED})
_RESTRICTED = ("chat", "text_completion")


def generates(view: View) -> bool | None:
    """Whether an exchange has a model produce something that is charged; None where the body could not be read."""
    operation = view.get("request.operation")
    if isinstance(operation, str):
        return operation != _FREE
    return None if isinstance(view.get("request.cause"), str) else False


def reserved(plan: PlanLimit, view: View) -> int | None:
    """What a limit holds back for one exchange before its answer; None where no price tells.

    Tokens: one for every four characters of the prompt (of the body, where nobody reads prompts), and as many output tokens
    as the request allows itself, at most `reserve`. Cached tokens may be all of the input, those of reasoning all of the
    output. Never more than the limit's amount: a large request waits until nothing else is held, instead of for ever.
    """
    unit = plan.limit.unit
    if unit not in METERED:
        return 1
    sent, said = _estimate(view), _allowed(plan, view)
    if unit is not Unit.USD:
        return min(max(1, _of_unit(unit, sent, said, sent, said)), plan.limit.amount)
    price = price_of(plan, view)
    return None if price is None else min(sent * price.input + said * price.output, plan.limit.amount)


def _estimate(view: View) -> int:
    """Input tokens, before anybody has counted them."""
    length, size = _whole(view.get("prompt.length")), _whole(view.get("request.size"))
    return -(-(size or 0 if length is None else length) // _CHARACTERS_PER_TOKEN)


def _allowed(plan: PlanLimit, view: View) -> int:
    """The most output tokens that a request allows itself, as far as a limit holds them back."""
    if view.get("request.operation") == _EMBEDDINGS:
        return 0
    most, candidates = _whole(view.get("request.max_tokens")), _whole(view.get("request.n"))
    return min(plan.reserve, plan.reserve if most is None else most * max(1, candidates or 1))


def _of_unit(unit: Unit, sent: int, said: int, cached: int, reasoned: int) -> int:
    """The tokens that a limit of a unit counts."""
    return {Unit.INPUT: sent, Unit.OUTPUT: said, Unit.CACHED: cached, Unit.REASONING: reasoned}.get(unit, sent + said)


def biting(restriction: Restriction, view: View) -> Restriction | None:
    """What of a restriction takes something from this request; None where it asks for no more than that."""
    most, candidates = _whole(view.get("request.max_tokens")), _whole(view.get("request.n"))
    clamp, fewer = restriction.max_tokens, restriction.n
    found = Restriction(
        clamp if clamp is not None and (most is None or most > clamp) else None,
        fewer if fewer is not None and candidates is not None and candidates > fewer else None,
        restriction.logprobs or view.get("request.logprobs") is not True,
        restriction.reasoning or view.get("request.reasoning") is not True,
    )
    return found if view.get("request.operation") in _RESTRICTED and found.plain() else None


def used(plan: PlanLimit, view: View, held: int) -> int:
    """What one exchange is charged of a limit in tokens or money, of which it held back `held`.

    What the upstream says it took, and what was held back where it says nothing. An answer that broke off is never charged less
    than was held back: what stands in the middle of a stream is a beginning, and going away before the end would buy the rest
    of it. Nor is it charged less than one output token for every event of it that went out, or, of an answer in one piece whose
    end nobody saw, for every four bytes: its usage stands at the end, and all that was worth having may have come before.
    """
    answer = view.answer
    assert answer is not None, "an exchange is settled with its answer"
    sent, said = _whole(view.get("response.input_tokens")), _whole(view.get("response.output_tokens"))
    broken = answer.end in _BROKEN
    if broken:
        said = max(said or 0, answer.events, 0 if said is not None else _of_a_piece(view, answer))
        sent = _estimate(view) if sent is None else sent
    elif sent is None and said is None:
        return held
    cached = min(sent or 0, _whole(view.get("response.cached_tokens")) or 0)
    reasoned = _whole(view.get("response.reasoning_tokens")) or 0
    if plan.limit.unit is not Unit.USD:
        found = _of_unit(plan.limit.unit, sent or 0, said or 0, cached, reasoned)
        return max(found, held) if broken else found
    price = price_of(plan, view)
    if price is None:
        return held
    found = ((sent or 0) - cached) * price.input + cached * price.cached + (said or 0) * price.output
    return max(found, held) if broken else found


def _of_a_piece(view: View, answer: Answer) -> int:
    """Output tokens of what went out of an answer that broke off; 0 where bytes do not tell: of events, numbers, logprobs."""
    if answer.events or view.get("request.operation") not in _RESTRICTED or view.get("request.logprobs") is True:
        return 0
    most, candidates = _whole(view.get("request.max_tokens")), _whole(view.get("request.n"))
    found = answer.size // _CHARACTERS_PER_TOKEN
    return found if most is None else min(found, most * max(1, candidates or 1))


def price_of(plan: PlanLimit, view: View) -> Price | None:
    """The price of the model asked for; the dearest known for an unknown one, where the limit shares what is missing."""
    model = view.get("request.model")
    assert plan.prices is not None, "a limit in usd does not load without prices"
    price = plan.prices.of(model) if isinstance(model, str) else None
    return plan.prices.dearest if price is None and plan.on_missing == "share" else price


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def exception_of(rule: Rule, view: View) -> str:
    """The name of the exception that exempts this exchange from a rule, or the empty text."""
    for exception in rule.exceptions:
        for entry in exception.entries:
            if view.facts.at < entry.expires and all(
                view.get(name) == value for name, value in zip(exception.fields, entry.values, strict=True)
            ):
                return exception.name
    return ""


def abstention_of(rule: Rule, view: View) -> str:
    """The declared workload for which a rule leaves this exchange alone, or the empty text: the first by id that covers it."""
    return next((one.workload.id for one in standing_of(view) if one.workload.kind in rule.abstain_for and one.covers), "")


def mode_of(rule: Rule, view: View) -> Mode:
    """A rule's mode on this exchange: outside its share of accounts an enforced rule is in shadow.

    The hash is stable, so a larger share only adds accounts. An exchange without an account is outside every share but 1.
    """
    if rule.mode is not Mode.ENFORCE or rule.share >= 1:
        return rule.mode
    account = view.get("account.id")
    if not isinstance(account, str):
        return Mode.SHADOW
    place = int.from_bytes(blake2b(joined((rule.id, account)).encode("utf-8", "surrogatepass"), digest_size=8).digest())
    return Mode.ENFORCE if place < rule.share * 2**64 else Mode.SHADOW


def step_of(rule: Rule, values: Callable[[str], object]) -> int | None:
    """Which of a rule's effects applies; None below the first step."""
    if rule.response.of is None:
        return 0
    value = values(rule.response.of)
    height = value.count if isinstance(value, AtLeast) else value
    if not isinstance(height, (int, float)):
        return None
    step = bisect_right(rule.response.starts, height) - 1
    return step if step >= 0 else None
