"""Declared workloads on one exchange: which ones cover it, whether in time, below their ceiling and within their items.

Every workload names whose it is, so an index over accounts and organisations finds the few whose scope may hold; for all others
an exchange pays two look-ups. A scope is decided before the first batch of state operations; how much was counted is known only
after it. So `workload.kind`, `workload.id` and `workload.within_scope` may stand anywhere, and what depends on counts only in
the condition of a rule and in its evidence.

The signals speak of one declaration: the first by id, of those in force whose scope holds. Rules abstain, and
`reseller.declared` is true, if any declaration of the kind covers the exchange fully. Unknown is not covered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.language.campaigns import KINDS, Ceiling, Workload
from gateway.language.conditions import All, Leaf, Truth
from gateway.language.policy import Rule
from gateway.language.workloads import ITEM
from gateway.signals import NOT_RECORDED, View
from gateway.state.operations import Sight
from gateway.values import Failed, Missing

IDENTITY: Final = ("account.id", "account.org")
NONE_COVERS: Final = Missing("no declared workload covers it")
UNSURE: Final = Missing("not known whether a declared workload covers it")
NOT_COUNTED: Final = Missing("not counted")
_RELAY: Final = "relay"


@dataclass(frozen=True, slots=True)
class Standing:
    """A declaration whose scope holds, and how it stands: a truth is None where it is not known."""

    workload: Workload
    in_time: bool
    within_ceiling: Truth
    within_items: Truth

    @property
    def covers(self) -> bool:
        """Whether the declaration does anything: in time, below its ceiling and within its items."""
        return self.in_time and self.within_ceiling is True and self.within_items is True

    @property
    def covering(self) -> Truth:
        """The same, None where it is not known."""
        parts = (self.in_time, self.within_ceiling, self.within_items)
        return False if False in parts else None if None in parts else True

    @property
    def why_not(self) -> str:
        """In a word or two, why it does nothing; empty where it covers the exchange."""
        if not self.in_time:
            return "not in time"
        if self.within_ceiling is not True:
            return "above its ceiling" if self.within_ceiling is False else "its count is not known"
        return "" if self.within_items is True else "outgrown" if self.within_items is False else "its items are not known"


class Declarations:
    """The workloads of a policy, found by whose they are. counted: the kinds whose ceilings and items are counted at all."""

    def __init__(self, workloads: Iterable[Workload], counted: Collection[str]) -> None:
        self.workloads = tuple(sorted(workloads, key=lambda workload: workload.id))
        self.counted = frozenset(counted)
        self._owners: dict[str, dict[str, list[Workload]]] = {}
        self._anywhere: list[Workload] = []
        for workload in self.workloads:
            owner = owner_of(workload)
            if owner is None:
                self._anywhere.append(workload)
                continue
            owned = self._owners.setdefault(owner.name, {})
            for value in owner.operand:
                owned.setdefault(value, []).append(workload)

    def __bool__(self) -> bool:
        return bool(self.workloads)

    def of(self, view: View) -> Coverage:
        """What they say of one exchange."""
        return Coverage(self, view)

    def near(self, view: View) -> list[Workload]:
        """The workloads of the exchange's account and organisation, by id: no other one's scope can hold."""
        found = list(self._anywhere)
        for name, owned in self._owners.items():
            value = view.get(name)
            if type(value) is str:
                found += owned.get(value, ())
        return found if len(found) < 2 else sorted(found, key=lambda workload: workload.id)

    def unowned(self, view: View) -> Iterator[Workload]:
        """The workloads of which it is not known whether they are the exchange's: their account or organisation is missing."""
        for name, owned in self._owners.items():
            if type(view.get(name)) is not str:
                for workloads in owned.values():
                    yield from workloads


class Coverage:
    """What the declarations say of one exchange. measured: the measures by label, once the state has answered."""

    __slots__ = ("_standing", "declarations", "doubtful", "found", "measured", "view")

    def __init__(self, declarations: Declarations, view: View, measured: Mapping[str, object] | None = None) -> None:
        self.declarations, self.view, self.measured = declarations, view, measured
        self.found: list[Workload] = []
        self.doubtful: list[Workload] = []
        self._standing: tuple[Standing, ...] | None = None
        for workload in declarations.near(view):
            truth = _scope(workload, view)
            if truth is not False:
                (self.found if truth else self.doubtful).append(workload)

    def over(self, view: View) -> Coverage:
        """The same declarations and counts, of the exchange as another view sees it."""
        return Coverage(self.declarations, view, self.measured)

    def counting(self) -> Iterator[tuple[str, Sight | Missing | Failed]]:
        """What is counted of this exchange, by label: for each declaration whose scope holds its ceiling and its items."""
        seen: set[str] = set()
        for workload in self.found:
            if workload.kind not in self.declarations.counted:
                continue
            for part, value in ((workload.ceiling, 1), (workload.items, None)):
                if part is None or part.measure.label in seen:
                    continue
                seen.add(part.measure.label)
                if part is workload.ceiling:
                    yield part.measure.label, Sight(part.measure.window, (), value)
                else:
                    yield part.measure.label, self._item(part, workload)

    def _item(self, part: Ceiling, workload: Workload) -> Sight | Missing | Failed:
        item = self.view.get(ITEM)
        if isinstance(item, Failed) or item is NOT_RECORDED:
            return item
        if isinstance(item, Missing) and isinstance(self.view.get("request.operation"), str):
            return item  # a call that says nothing readable: whether it is a new item is not known, so it is not covered
        counts = isinstance(item, str) and in_time(workload, self.view)
        return Sight(part.measure.window, (), item if counts else None)  # type: ignore[arg-type]

    def settle(self, measured: Mapping[str, object]) -> None:
        """Take the answers of the state."""
        self.measured, self._standing = measured, None

    def standing(self) -> tuple[Standing, ...]:
        """Every declaration whose scope holds, by id."""
        if not self.found:
            return ()
        if self._standing is None:
            self._standing = tuple([
                Standing(one, in_time(one, self.view), self._holds(one.ceiling), self._holds(one.items)) for one in self.found
            ])  # fmt: skip
        return self._standing

    def value(self, name: str) -> object:
        """The value of a derived signal."""
        return VALUES[name](self)

    def first(self) -> Standing | Missing | None:
        """The declaration that the signals speak of; None where none covers it, Missing where that is not known."""
        found = next((one for one in self.standing() if one.in_time), None)
        return found if found is not None else UNSURE if self.unsure() else None

    def unsure(self, kind: str = "") -> bool:
        """Whether a declaration in force (of this kind) may cover the exchange, if only more of it were known."""
        candidates = [*self.doubtful, *self.declarations.unowned(self.view)]
        return any(in_time(one, self.view) and kind in ("", one.kind) for one in candidates)

    def _holds(self, part: Ceiling | None) -> Truth:
        if part is None:
            return True
        return part.leaf.test(NOT_COUNTED if self.measured is None else self.measured.get(part.measure.label, NOT_COUNTED))


def in_time(workload: Workload, view: View) -> bool:
    """Whether a declaration is in force when the exchange is asked."""
    return workload.since <= view.facts.at < workload.until


def owner_of(workload: Workload) -> Leaf | None:
    """The comparison that says whose a workload is, where one must hold for its scope to hold."""
    parts = workload.when.parts if isinstance(workload.when, All) else (workload.when,)
    named = [part for part in parts if isinstance(part, Leaf) and part.name in IDENTITY and part.operator.name == "in"]
    return min(named, key=lambda part: IDENTITY.index(part.name), default=None)


def standing_of(view: View) -> tuple[Standing, ...]:
    """Every declaration whose scope holds for the exchange of a view that was judged, by id."""
    return view.declared.standing() if isinstance(view.declared, Coverage) else ()


def kinds_read(rules: Iterable[Rule], evidence: bool = True) -> frozenset[str]:
    """The kinds of workloads whose counts these rules look at: those they abstain for, and those their signals speak of."""
    found: set[str] = set()
    for rule in rules:
        found.update(rule.abstain_for)
        names = {leaf.name for leaf in rule.when.leaves()} | (set(rule.evidence) if evidence else set())
        for name, kinds in COUNTED.items():
            found.update(kinds if name in names and name not in rule.measures else ())
    return frozenset(found)


def _scope(workload: Workload, view: View) -> Truth:
    try:
        return workload.when.evaluate(view.get)
    except Exception:  # a value of a third party's provider whose comparison raises: acts as unknown, and covers nothing
        return None


def _said(of: Callable[[Standing], object], nobody: object) -> Callable[[Coverage], object]:
    def value(coverage: Coverage) -> object:
        found = coverage.first()
        if found is None or isinstance(found, Missing):
            return nobody if found is None else found
        said = of(found)
        return NOT_COUNTED if said is None else said

    return value


def _relay_declared(coverage: Coverage) -> object:
    truths = {one.covering for one in coverage.standing() if one.workload.kind == _RELAY}
    if True in truths:
        return True
    return UNSURE if None in truths or coverage.unsure(_RELAY) else False


VALUES: Final[Mapping[str, Callable[[Coverage], object]]] = {
    "workload.kind": _said(lambda one: one.workload.kind, NONE_COVERS),
    "workload.id": _said(lambda one: one.workload.id, NONE_COVERS),
    "workload.within_scope": _said(lambda one: True, False),
    "workload.within_ceiling": _said(lambda one: one.within_ceiling, False),
    "workload.within_items": _said(lambda one: one.within_items, False),
    "reseller.declared": _relay_declared,
}
COUNTED: Final[Mapping[str, tuple[str, ...]]] = {
    "workload.within_ceiling": KINDS,
    "workload.within_items": KINDS,
    "reseller.declared": (_RELAY,),
}
