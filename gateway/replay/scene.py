"""A recorded exchange put back where it stood, and evaluated again: as it was, or under a supposition.

Signal values, measures, the answers of limits and quarantines are the record's; the engine and enforcement are those that live
traffic goes through. What a policy declares of an exchange follows from these, so it is found anew and never put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.decision import Decision, Room
from gateway.enforcement import Enforced, Trouble, enforce
from gateway.engine import Engine, Evaluated, Prepared
from gateway.language.policy import Policy
from gateway.signals import NOT_RECORDED, View
from gateway.state.operations import Reply

_SUPPOSED: Final = "supposed not to match"


@dataclass(frozen=True, slots=True)
class Supposed:
    """What is supposed of an exchange beside what its record says.

    signals: by name. measures: by label (a ratio's label stands for the ratio alone). policy: other rules. room: limits that
    are supposed to have room. resting: rules that are supposed not to match.
    """

    signals: Mapping[str, object] = field(default_factory=dict)
    measures: Mapping[str, object] = field(default_factory=dict)
    policy: Policy | None = None
    room: frozenset[str] = frozenset()
    resting: frozenset[str] = frozenset()

    def also(self, other: Supposed) -> Supposed:
        """Both suppositions; of two policies the other's."""
        signals, measures = {**self.signals, **other.signals}, {**self.measures, **other.measures}
        room, resting = self.room | other.room, self.resting | other.resting
        return Supposed(signals, measures, other.policy or self.policy, room, resting)


@dataclass(frozen=True, slots=True)
class Again:
    """One evaluation: what the engine and enforcement said. looked_at: the limits asked for room, and whether in shadow."""

    prepared: Prepared
    looked_at: list[tuple[str, bool]]
    evaluated: Evaluated
    decision: Decision
    enforced: Enforced


@dataclass(frozen=True, slots=True)
class Scene:
    """A recorded exchange put back where it stood: signals, measures by label, the answers of limits, rules in quarantine."""

    view: View
    measures: Mapping[str, object]
    rooms: list[Room]
    resting: Mapping[str, str]

    def evaluate(self, engine: Engine, trouble: Trouble, supposed: Supposed) -> Again:
        """What an engine makes of it, under a supposition; counts stay as recorded unless they are supposed to be others."""
        view, measures = self.supposing(supposed), {**self.measures, **supposed.measures}
        rooms = [replace(room, allowed=True) if room.limit in supposed.room else room for room in self.rooms]
        prepared = engine.prepare(view, limits=trouble.cause is None)
        uncounted = engine.prepare(replace(self.view), limits=False).values if supposed.measures else {}
        for label in supposed.measures.keys() & uncounted.keys() & prepared.values.keys():
            prepared.values[label] = supposed.measures[label]
        notes = [spec.notes[family, enforced].label for spec, family, enforced in prepared.noted]
        readings = [measures.get(label, NOT_RECORDED) for label in prepared.labels]
        reply = Reply([*readings, *(measures.get(note, 0) for note in notes)])  # type: ignore[list-item]
        evaluated = engine.evaluate(view, prepared, reply, {**self.resting, **dict.fromkeys(supposed.resting, _SUPPOSED)})
        looked_at = self._looked_at(engine, view, prepared, evaluated, trouble, rooms)
        rooms = [room for room in rooms if (room.limit, room.shadow) in looked_at]
        decision = engine.decide(evaluated, rooms)
        enforced = enforce(decision, evaluated, prepared, rooms, trouble, view.facts.at)
        return Again(prepared, looked_at, evaluated, decision, enforced)

    def _looked_at(
        self, engine: Engine, view: View, prepared: Prepared, evaluated: Evaluated, trouble: Trouble, rooms: list[Room]
    ) -> list[tuple[str, bool]]:
        """The limits that the gate asks for room: those of plans first, those of rules if nothing refused by then."""
        batches = [prepared.batch]
        first = {take.limit.id for take in prepared.batch.takes}
        full = any(not room.allowed and not room.shadow and room.limit in first for room in rooms)
        if trouble.cause is None and not full and (second := engine.throttles(view, evaluated)):
            batches.append(second)
        return [(take.limit.id, take.limit.shadow) for batch in batches for take in (*batch.takes, *batch.shadow_takes)]

    def supposing(self, supposed: Supposed) -> View:
        """The view of the exchange with other signal values; what policies declare of it is then found anew."""
        if supposed == Supposed():
            return self.view
        catalogue, given = self.view.catalogue, self.view.facts.recorded or {}
        kept = {name: value for name, value in self.view.resolved.items() if name in given or not catalogue[name].derived}
        view = replace(self.view, resolved={**kept, **supposed.signals})
        view.declared = self.view.declared.over(view) if self.view.declared is not None else None
        return view
