"""The compiled, immutable policy: what the language yields and the engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.decision import Action, Mode, Public, Restriction
from gateway.errors import Place
from gateway.language.campaigns import KINDS as KINDS
from gateway.language.campaigns import Workload
from gateway.language.conditions import Condition
from gateway.language.lists import ValueList
from gateway.language.measures import Measure, Ratio
from gateway.state.operations import Limit, Window
from gateway.values import timestamp_text

FAMILIES = ("network", "client", "identity", "content", "coordination", "volume")


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing a rule may do.

    limit and per: for throttle. tag: for tag. hold: µs, for delay. status: for refusals. restriction: for restrict. ask: the
    kind of workload that the caller is asked to declare, whatever else is done.
    """

    action: Action
    status: int = 0
    limit: Limit | None = None
    per: tuple[str, ...] = ()
    tag: str = ""
    hold: int = 0
    link: str | None = None
    restriction: Restriction | None = None
    ask: str = ""

    def canonical(self) -> object:
        limit = [self.limit.amount, self.limit.period, str(self.limit.pace)] if self.limit else None
        demand = self.restriction.plain() if self.restriction else None
        done = [str(self.action), self.status, limit, list(self.per), self.tag, self.hold, self.link, demand]
        return [*done, self.ask] if self.ask else done


@dataclass(frozen=True, slots=True)
class Response:
    """What a match leads to: one effect, or half-open steps of a measure (`starts` are the lower bounds, rising)."""

    effects: tuple[Effect, ...]
    of: str | None = None
    starts: tuple[float, ...] = ()

    def canonical(self) -> object:
        return [self.of, list(self.starts), [effect.canonical() for effect in self.effects]]


@dataclass(frozen=True, slots=True)
class Note:
    """A family's matches under a key, remembered for corroboration: what records call them, and their window."""

    label: str
    window: Window


@dataclass(frozen=True, slots=True)
class Corroborate:
    """Act only when rules of at least `families` families (the rule's own included) matched the same key.

    notes: per family and view (enforced or would-be), what matches are noted as.
    """

    families: int
    within: int
    per: tuple[str, ...]
    otherwise: Action
    notes: Mapping[tuple[str, bool], Note] = field(default_factory=dict, compare=False)

    def canonical(self) -> object:
        return [self.families, self.within, list(self.per), str(self.otherwise)]

    def shares_notes(self, other: Corroborate) -> bool:
        """Whether both look at the same notes: equal keys and time, whatever they demand of them."""
        return (self.within, self.per) == (other.within, other.per)


@dataclass(frozen=True, slots=True)
class ExceptionEntry:
    """One exempted combination of values, with who answers for it and until when (µs)."""

    values: tuple[Any, ...]
    reason: str
    owner: str
    expires: int
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class RuleException:
    """The shape of an exemption (fixed by the author) and its entries (added by operators)."""

    name: str
    fields: tuple[str, ...]
    entries: tuple[ExceptionEntry, ...]

    def canonical(self) -> object:
        rows = [[[_plain(value) for value in entry.values], entry.expires] for entry in self.entries]
        return [self.name, list(self.fields), sorted(rows, key=repr)]


def _plain(value: object) -> object:
    return sorted(value, key=repr) if isinstance(value, frozenset) else value


@dataclass(frozen=True, slots=True)
class FalsePositive:
    """An honest cause of a match, and the leaf that keeps it out."""

    cause: str
    mitigated_by: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """What must be shown before a rule is enforced (`gate`): the most wrongly matched accounts, and on how much traffic.

    max_upper_95: the one-sided 95 % upper bound of the share of benign accounts matched; min_benign_accounts and min_days:
    the least traffic that may show it.
    """

    max_upper_95: float
    min_benign_accounts: int
    min_days: int

    def canonical(self) -> object:
        return [self.max_upper_95, self.min_benign_accounts, self.min_days]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a rule's errors (`measured`): the one-sided 95 % upper bound of the share of benign accounts it matched,
    on how many of them, over how many days, when (µs since 1970) and where that was found. It changes no decision; records of
    matches hold it as it was known then.
    """

    upper_95: float
    benign_accounts: int
    days: int
    at: int
    source: str

    def plain(self) -> dict[str, object]:
        """As records and explanations show it."""
        return {"upper_95": self.upper_95, "benign_accounts": self.benign_accounts, "days": self.days,
                "at": timestamp_text(self.at), "source": self.source}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a pack.

    abstain_for: kinds of declared workloads that it leaves alone. share: of the accounts, for how many an enforced rule acts;
    for the others it is in shadow. gate: what promotion demands; it changes no decision.
    """

    id: str
    pack: str
    title: str
    family: str
    severity: str
    owner: str
    when: Condition
    response: Response
    public: Public
    mode: Mode
    place: Place = field(compare=False)
    measures: Mapping[str, Measure | Ratio] = field(default_factory=dict)
    corroborate: Corroborate | None = None
    exceptions: tuple[RuleException, ...] = ()
    evidence: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    false_positives: tuple[FalsePositive, ...] = ()
    blind_spots: tuple[str, ...] = ()
    abstain_for: tuple[str, ...] = ()
    share: float = 1.0
    gate: Promotion | None = None
    measured: Measured | None = None
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    @property
    def columns(self) -> bool:
        """Whether its condition can be computed over whole columns, as a fast replay does.

        That is all a columnar form carries: what becomes of a match (exceptions, workloads, corroboration, steps, limits,
        leases) and measures on answers stay with the event engine.
        """
        leaves = all(leaf.operator.columns for leaf in self.when.leaves())
        return leaves and all(measure.columns for measure in self.measures.values())

    def at(self, part: str) -> Place:
        """Where a part of the rule stands (`measures/requests`, `steps/0`, `false_positives/1`, `gate`), or else the rule."""
        return self.places.get(part, self.place)

    def canonical(self) -> object:
        return {
            "id": self.id, "family": self.family, "mode": str(self.mode), "when": self.when.canonical(),
            "measures": {name: measure.label for name, measure in self.measures.items()},
            "response": self.response.canonical(), "public": [self.public.code, self.public.message],
            "corroborate": self.corroborate.canonical() if self.corroborate else None,
            "exceptions": sorted((e.canonical() for e in self.exceptions), key=repr), "evidence": sorted(self.evidence),
            "abstain_for": list(self.abstain_for), "share": self.share, "gate": self.gate.canonical() if self.gate else None,
        }  # fmt: skip


class Price(NamedTuple):
    """What a model costs, in billionths of a US dollar per token. cached: of input tokens read from a cache."""

    input: int
    output: int
    cached: int


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model; a key that ends in `*` stands for every model that begins so, the longest one first."""

    models: Mapping[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model, or None."""
        found = self.models.get(model)
        if found is not None:
            return found
        beginnings = [key for key in self.models if key.endswith("*") and model.startswith(key[:-1])]
        return self.models[max(beginnings, key=len)] if beginnings else None

    @property
    def dearest(self) -> Price:
        """At least what any model here costs."""
        return Price(*map(max, zip(*self.models.values(), strict=True)))

    def canonical(self) -> object:
        return sorted([model, *price] for model, price in self.models.items())


@dataclass(frozen=True, slots=True)
class PlanLimit:
    """A limit that stands for itself: part of the plan, published to the caller. on_missing: refuse, share or skip.

    reserve: of tokens and money, the most output tokens held back until the answer says how many there were. prices: what
    models cost, for limits in usd.
    """

    limit: Limit
    pack: str
    per: tuple[str, ...]
    when: Condition | None
    on_missing: str
    mode: Mode
    public: Public
    place: Place = field(compare=False)
    reserve: int = 0
    prices: Prices | None = None

    def canonical(self) -> object:
        limit, prices = self.limit, self.prices.canonical() if self.prices else None
        base = [limit.id, str(limit.unit), limit.amount, limit.period, str(limit.pace), list(self.per), str(self.mode)]
        public = [self.public.code, self.public.message]
        return [*base, self.on_missing, self.when.canonical() if self.when else None, public, self.reserve, prices]


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything in force. digest: SHA-256 over the canonical form. version: the sum of the packs' versions.

    places: where each pack states its version.
    """

    rules: tuple[Rule, ...]
    limits: tuple[PlanLimit, ...]
    lists: Mapping[tuple[str, str], ValueList]
    packs: Mapping[str, int]
    digest: str
    measures: tuple[Measure, ...]
    corroborations: tuple[Corroborate, ...]
    workloads: tuple[Workload, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    @property
    def version(self) -> int:
        return sum(self.packs.values())

    def rule(self, rule_id: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.id == rule_id), None)
