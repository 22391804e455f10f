"""Signals: named, typed values derived from the facts, each stating what it means and what it can be mistaken for.

A `Signal` carries its own resolver: a plain function of the `View` of one exchange. It returns a value of the stated
type or a `Missing` with the reason; it does no I/O. The `View` resolves a signal when it is first needed and remembers
it; an exception inside a resolver becomes a `Failed` value, so that one broken provider never decides for everyone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from gateway.errors import NotRecordedError
from gateway.facts import Answer, Facts
from gateway.values import Failed, Missing, Type


class Cost(StrEnum):
    """What resolving a signal needs, cheapest first."""

    HEADER = "header"
    BODY = "body"
    STATE = "state"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Recollection:
    """How a signal's value comes from what was remembered of earlier exchanges (`gateway.recalling`).

    The value is the share, in thousandths, of the marks `asked` of an exchange that are among those `kept` of earlier ones
    with the same value of the signal `key`, at most `length` (µs) ago. Marks are keyed hashes of 64 bits. No marks: nothing is
    asked or remembered, and the signal's own resolver says why. hears: whether `kept` will look at the text of the answer.
    """

    key: str
    length: int
    asked: Callable[[View], Sequence[int]]
    kept: Callable[[View], Sequence[int]]
    hears: Callable[[View], bool]


Class = type  # by another name: a signal's `type` is its type in the language


@dataclass(frozen=True, slots=True)
class Signal:
    """One entry of the catalogue (`sluice signals` prints it).

    meaning: what the value says. missing: when there is none. confounder: the honest caller who shows the same value.
    source: where the idea comes from. settled: only known after the answer, so measures on it count at settle time. least: of
    numbers and durations, a value that none lies below; `sluice check` then knows which comparisons distinguish nothing.
    recorded: resolved for every audit record, whether or not a rule asked for it. derived: follows from what the policy in
    force declares, so that it is found anew wherever an exchange is judged again. counted: only known once the state has said
    what was counted, so that it may stand in a rule's condition and evidence, and nowhere before that. recalls: known once the
    state has said what it remembers, so that measures on it count at settle time. issued_as: the signal, known after the
    answer, that holds what a later call shows as a value of this one: measures by it count the answered exchange under it too.
    exact: the class of its values.
    """

    name: str
    type: Type
    meaning: str
    resolve: Callable[[View], object]
    cost: Cost = Cost.HEADER
    missing: str = "never"
    confounder: str = "none"
    source: str = ""
    settled: bool = False
    least: int | None = None
    recorded: bool = False
    derived: bool = False
    counted: bool = False
    recalls: Recollection | None = None
    issued_as: str = ""
    exact: Class = field(init=False, repr=False, compare=False, default=object)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", self.type.exact)

    @property
    def late(self) -> bool:
        """Whether it is unknown when an exchange is counted, so that measures on it count at settle time."""
        return self.settled or self.recalls is not None


Catalogue = Mapping[str, Signal]


def only_after(catalogue: Catalogue) -> frozenset[str]:
    """The names of the signals that are only known after the answer."""
    return frozenset(name for name, signal in catalogue.items() if signal.settled)


def least_of(catalogue: Catalogue) -> dict[str, float]:
    """The least value of each signal that states one."""
    return {name: signal.least for name, signal in catalogue.items() if signal.least is not None}


UNKNOWN_SIGNAL = Missing("no such signal")
NOT_RECORDED = Missing("not recorded")


def held(signal: Signal) -> bool:
    """Whether records hold a signal known with the request: what is declared, counted or recalled is found anew."""
    return not (signal.settled or signal.derived or signal.counted or signal.recalls is not None)


NOT_ANSWERED = Missing("the exchange is not over")
_UNRESOLVED = object()
Found = TypeVar("Found")


class Declared(Protocol):
    """What the workloads of the policy in force say of one exchange (`gateway.declarations`)."""

    def value(self, name: str) -> object:
        """The value of a derived signal."""
        ...

    def settle(self, measured: Mapping[str, object]) -> None:
        """Take what was counted, by label."""
        ...

    def over(self, view: View) -> Declared:
        """The same, of this exchange as another view sees it."""
        ...


@dataclass(slots=True)
class View:
    """The signals of one exchange, resolved when first asked for.

    `answer` is set at settle time, which makes the `response.*` signals resolvable. `declared` is the engine's; None where the
    policy declares no workload.
    """

    facts: Facts
    catalogue: Catalogue
    answer: Answer | None = None
    resolved: dict[str, object] = field(default_factory=dict)
    declared: Declared | None = None
    shared: dict[Callable[[View], object], object] = field(default_factory=dict, init=False, repr=False, compare=False)
    _live: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._live = self.facts.recorded is None and (self.answer is None or self.answer.recorded is None)

    def get(self, name: str) -> object:
        """The value of a signal: typed, or `Missing`, or `Failed`. Raises nothing, but NotRecordedError of partial facts."""
        resolved = self.resolved
        if name in resolved:
            return resolved[name]
        try:
            signal = self.catalogue[name]
            if self._live or self._computed(signal):
                resolve = signal.resolve  # the interpreter is slow to call what it finds in a slot
                value = resolve(self)
                kind = type(value)
                if kind is not signal.exact and kind is not Missing:
                    value = _checked(signal, value)
            else:
                value = self._recorded(name, signal)
        except NotRecordedError:
            raise  # whoever made these facts left something out, and wants to know
        except Exception as error:  # a provider may be third-party code: its failure is a value, not ours to die of
            known = name in self.catalogue
            value = Failed(f"{type(error).__name__}: {error}") if known else self._recorded(name, None)
        resolved[name] = value
        return value

    def once(self, found: Callable[[View], Found]) -> Found:
        """What a pure function finds of this exchange, worked out when it is first asked for: what several signals need.

        It is no signal: no rule can name it, and no record holds it. Raises whatever the function raises.
        """
        value = self.shared.get(found, _UNRESOLVED)
        if value is _UNRESOLVED:
            value = self.shared[found] = found(self)
        return value  # type: ignore[return-value]  # `cast` is a call, and this is asked two dozen times for an exchange

    def _computed(self, signal: Signal) -> bool:
        """Whether a signal is worked out, although a record holds values of its exchange."""
        told = self.answer.recorded if self.answer is not None and signal.settled else None
        if told is not None and (signal.recorded or signal.name in told):
            return False
        recorded = self.facts.recorded
        return recorded is None or signal.settled or (signal.derived and signal.name not in recorded)

    def _recorded(self, name: str, signal: Signal | None) -> object:
        answer, recorded = self.answer, self.facts.recorded
        if signal is not None and signal.settled and answer is not None and answer.recorded is not None:
            return answer.recorded.get(name, NOT_RECORDED)
        return UNKNOWN_SIGNAL if recorded is None else recorded.get(name, NOT_RECORDED)

    @classmethod
    def of(cls, facts: Facts, catalogue: Catalogue) -> View:
        """The view of an exchange; what a record already holds counts as resolved, so that it is recorded again."""
        held = facts.recorded or {}
        return cls(facts, catalogue, None, {name: value for name, value in held.items() if name in catalogue})

    def over(self, answer: Answer, settled: Collection[str] | None = None) -> View:
        """The view once the exchange is over: what was resolved stays, `response.*` becomes known.

        settled: `only_after` of the catalogue, where the caller holds it.
        """
        kept = self.resolved.copy()
        for name in kept.keys() & (only_after(self.catalogue) if settled is None else settled):
            del kept[name]
        return View(self.facts, self.catalogue, answer, kept, self.declared)


def _checked(signal: Signal, value: object) -> object:
    """A value of another class than its signal's, as far as it may stand."""
    if isinstance(value, (Missing, Failed)) or signal.type.holds(value):
        return value
    return Failed(f"gave {type(value).__name__}, but is {signal.type}")
