"""Signals whose values come from what the state remembers of earlier answers. Pure.

Such a signal (`signals.Recollection`) is asked for in the first batch of an exchange and known when its rules are evaluated;
what is to be remembered goes into the batch that settles it. Nothing is asked, listened to or remembered unless a rule that
is not off speaks of the signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.decision import Mode
from gateway.language.measures import Ratio
from gateway.language.policy import Rule
from gateway.readings import key_of
from gateway.signals import Catalogue, Signal, View
from gateway.state.operations import Recall
from gateway.values import Failed, Missing

Asked = list[tuple[str, Recall]]
THOUSAND = 1_000


def names_in(rule: Rule) -> set[str]:
    """The signals that a rule's condition, measures and evidence speak of."""
    found = {leaf.name for leaf in rule.when.leaves()} | set(rule.evidence)
    for declared in rule.measures.values():
        for measure in (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,):
            found |= {measure.of or ""} | {leaf.name for leaf in (measure.where.leaves() if measure.where else ())}
    return found


class Recalling:
    """The remembered signals that rules speak of. needed: whether an enforced rule is among them."""

    def __init__(self, rules: Iterable[Rule], catalogue: Catalogue) -> None:
        listed = list(rules)
        acting = {name for rule in listed if rule.mode is Mode.ENFORCE for name in names_in(rule)}
        named = {name for rule in listed for name in names_in(rule)}
        self._signals = [signal for signal in catalogue.values() if signal.recalls is not None and signal.name in named]
        self._acting = frozenset(acting)

    def asked(self, view: View) -> Asked:
        """What the state is asked for, by signal. A record brings the values of its day, so that nothing is asked for it."""
        found: Asked = []
        for signal in self._signals if view.facts.recorded is None else ():
            assert signal.recalls is not None
            if (recall := _recall(signal, view, keep=False)) is not None:
                found.append((signal.name, recall))
        return found

    def needed(self, asked: Asked) -> bool:
        """Whether an enforced rule speaks of something that was asked."""
        return any(name in self._acting for name, _ in asked)

    def told(self, view: View, asked: Asked, recalled: Sequence[int] | Missing) -> None:
        """Take the answers of the state: shares in thousandths. A Missing says why it gave none."""
        for place, (name, recall) in enumerate(asked):
            share = recalled if isinstance(recalled, Missing) else _share(recalled[place], len(recall.marks))
            view.resolved[name] = share

    def hears(self, view: View) -> bool:
        """Whether something of the text of an exchange's answer will be remembered."""
        recollections = [signal.recalls for signal in self._signals if signal.recalls is not None]
        return view.facts.recorded is None and any(one.hears(view) for one in recollections)

    def kept(self, view: View) -> list[Recall]:
        """What is remembered of an exchange that is over."""
        if not self._signals or view.facts.recorded is not None:
            return []
        found = [_recall(signal, view, keep=True) for signal in self._signals]
        return [recall for recall in found if recall is not None]


def _share(found: int, asked: int) -> float:
    return round(THOUSAND * found / asked) / THOUSAND


def _recall(signal: Signal, view: View, keep: bool) -> Recall | None:
    """What a signal asks for or has remembered. Where there is no key or nothing to look for, its resolver says why."""
    recalls = signal.recalls
    assert recalls is not None
    try:
        marks = recalls.kept(view) if keep else recalls.asked(view)
    except Exception as error:  # a third party's provider: the value says so, and its rules end as errors
        view.resolved[signal.name] = Failed(f"{type(error).__name__}: {error}")
        return None
    key = key_of((recalls.key,), view) if marks else None
    return Recall(signal.name, recalls.length, key, tuple(marks), keep) if isinstance(key, tuple) else None
