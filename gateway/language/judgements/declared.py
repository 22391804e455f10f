"""Judgements on what a policy declares beside its rules: lists, measures, exception entries, workloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.errors import Problem
from gateway.language.judgements.subject import Subject, counts_of
from gateway.language.measures import Measure
from gateway.state.operations import Count
from gateway.values import SECOND, duration_text, parse_timestamp, timestamp_text

# Bytes that the tables of `gateway.state.windows` take for one key, measured with tracemalloc: with its first value, and for
# every further one up to the `cap`. So many callers at once may fill their windows (the size of the largest ring the shipped
# rules count) before the memory meant for one million live accounts and all measures together is gone.
FULL_KEYS: Final = 500
BUDGET: Final = 1_500_000_000
FIRST_VALUE: Final = {Count.COUNT: 240, Count.SUM: 240, Count.DISTINCT: 40, Count.TOP_SHARE: 40, Count.QUANTILE: 40}
NEXT_VALUE: Final = {Count.DISTINCT: 12, Count.TOP_SHARE: 180}


def unsourced_lists(subject: Subject) -> Iterator[Problem]:
    """A list that does not say where its items come from, or when they were taken from there."""
    for (pack, name), found in subject.policy.lists.items():
        for what in ("source", "date"):
            if not getattr(found, what):
                mend = f"write '# {what}: …' on top of the file, or '{what}' beside the values"
                yield Problem(found.place, f"list '{name}' of pack '{pack}' does not say its {what}", mend)


def stale_lists(subject: Subject) -> Iterator[Problem]:
    """A list that is older than its own `max_age`, or whose date cannot be read to tell."""
    for (pack, name), found in subject.policy.lists.items():
        if not found.max_age or not found.date:
            continue
        try:
            taken = parse_timestamp(found.date)
        except ValueError:
            what = f"list '{name}' of pack '{pack}' has a max_age, but its date '{found.date}' is no date"
            yield Problem(found.place, what, "write the date as 2026-11-01")
            continue
        if subject.today is not None and subject.today - taken > found.max_age:
            age = duration_text(found.max_age)
            what = f"list '{name}' of pack '{pack}' is of {found.date}, older than its max_age of {age}"
            yield Problem(found.place, what, "take the items afresh from their source, and write the new date")


def unused_lists(subject: Subject) -> Iterator[Problem]:
    """A list that no condition of its pack speaks of."""
    policy = subject.policy
    for (pack, name), found in policy.lists.items():
        rules = [rule.when for rule in policy.rules if rule.pack == pack]
        wheres = [m.where for m in policy.measures if m.where] + [plan.when for plan in policy.limits if plan.when]
        used = any(leaf.source == (pack, name) for condition in [*rules, *wheres] for leaf in condition.leaves())
        if not used:
            yield Problem(found.place, f"list '{name}' of pack '{pack}' is not used", "remove it")


def unused_measures(subject: Subject) -> Iterator[Problem]:
    """A measure that is counted for every request and that its rule never looks at."""
    for rule in subject.policy.rules:
        used = {leaf.name for leaf in rule.when.leaves()} | {rule.response.of or ""} | set(rule.evidence)
        parts = {part.label for name in used & rule.measures.keys() for part in counts_of(rule.measures[name])}
        for name, measure in rule.measures.items():
            if name not in used and measure.label not in parts:
                place = rule.at(f"measures/{name}")
                yield Problem(place, f"measure '{name}' of rule '{rule.id}' is not used", "remove it")


def heavy_measures(subject: Subject) -> Iterator[Problem]:
    """A measure that a few hundred callers who fill it to its `cap` make outgrow the whole memory budget."""
    for rule in subject.policy.rules:
        for name, declared in rule.measures.items():
            if isinstance(declared, Measure) and (bound := bound_of(declared)) > BUDGET:
                kept = f"{FULL_KEYS} keys with {declared.window.cap:,} values each"
                what = f"measure '{name}' of rule '{rule.id}' may take {_size(bound)} ({kept}), more than {_size(BUDGET)}"
                yield Problem(rule.at(f"measures/{name}"), what, f"lower its 'cap' to {_largest_cap(declared):,} or less")


def expired_entries(subject: Subject) -> Iterator[Problem]:
    """An exception entry or a workload whose time is over: it does nothing any more and only hides that."""
    if subject.today is None:
        return
    for rule in subject.policy.rules:
        for exception in rule.exceptions:
            for entry in exception.entries:
                if entry.expires <= subject.today:
                    what = f"an entry of exception '{exception.name}' of rule '{rule.id}' expired on {_day(entry.expires)}"
                    yield Problem(entry.place, what, f"remove it, or ask {entry.owner} to renew it")
    for workload in subject.policy.workloads:
        if workload.until <= subject.today:
            what = f"workload '{workload.id}' ended on {_day(workload.until)}"
            yield Problem(workload.place, what, f"remove it, or ask {workload.owner} to renew it")


def bound_of(measure: Measure) -> int:
    """The bytes that `FULL_KEYS` keys of a measure take when each has as many values as its `cap` allows."""
    kind, cap = measure.window.kind, measure.window.cap
    return FULL_KEYS * (FIRST_VALUE[kind] + NEXT_VALUE.get(kind, 0) * (cap - 1))


def _largest_cap(measure: Measure) -> int:
    kind = measure.window.kind
    return 1 + (BUDGET // FULL_KEYS - FIRST_VALUE[kind]) // NEXT_VALUE[kind]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _day(at: int) -> str:
    return timestamp_text(at // SECOND * SECOND)[:10]
