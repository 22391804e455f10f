"""What is done where something needed is not there: one vocabulary for what an exchange lacks and for what the gateway lacks.

Two kinds of things can be missing. An exchange may be unreadable, or lack a credential: that is a `facts.Cause`. Or something
that the gateway depends on fails: that is a `Dependency`, each of which is watched by circuit breakers (`breaker`). For both
gateway.yaml declares under `fail` what is done. Nothing here decides; `enforcement` and the owners of the dependencies do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.decision import Mode
from gateway.facts import Cause


class Fail(StrEnum):
    """The declared answer. Only dependencies can degrade: go on with something stated that is less."""

    OPEN = "open"
    CLOSED = "closed"
    DEGRADE = "degrade"


class Dependency(StrEnum):
    """What the gateway depends on besides itself."""

    STATE = "state"
    DIRECTORY = "directory"
    GEO = "geo"
    OTLP = "otlp"
    RECORDS = "records"
    UPSTREAM = "upstream"


class Declared(NamedTuple):
    """A dependency: what it is, what is done unless something else is written, and what each mode means for it."""

    what: str
    default: Fail
    open: str
    closed: str
    degrade: str


DEPENDENCIES: Final[Mapping[Dependency, Declared]] = {
    Dependency.STATE: Declared(
        "shared state: Redis", Fail.CLOSED,
        open="no limit holds, and what rules count or remember is unknown",
        closed="whoever needs a limit or a count of an enforced rule is answered 503",
        degrade="each process holds its own share of every limit, amount // `state.replicas`; what rules count is unknown",
    ),
    Dependency.DIRECTORY: Declared(
        "the account directory that is asked (SQL, HTTP)", Fail.DEGRADE,
        open="as degrade, and whoever has no last known entry passes, with `account.*` missing",
        closed="entries past `identity.cache.keep` are not used: whoever is not known is answered 503",
        degrade="the last known entry holds for `identity.cache.stale` past its time; whoever has none is answered 503",
    ),
    Dependency.GEO: Declared(
        "geo databases that are too old or damaged", Fail.OPEN,
        open="what they would say is missing, and rules end as unknown",
        closed="every request is answered 503",
        degrade="they speak past `geo.max_age`, as they are",
    ),
    Dependency.OTLP: Declared(
        "the endpoint of traces", Fail.DEGRADE,
        open="spans are dropped at once and counted",
        closed="every request is answered 503",
        degrade="up to 8,192 spans wait for it; beyond that they are dropped and counted",
    ),
    Dependency.RECORDS: Declared(
        "the disk of the audit records", Fail.DEGRADE,
        open="up to 128 MiB of records wait for it; beyond that they are lost and counted",
        closed="every request is answered 503 from the first record it refuses or delays by 5 s; those under way wait for it",
        degrade="up to 64 MiB of records wait for it; while as many do, every request is answered 503",
    ),
    Dependency.UPSTREAM: Declared(
        "an upstream", Fail.DEGRADE,
        open="every request is sent, whatever was met before; of several, each is asked in its turn",
        closed="while all of its protocol are left alone, requests are answered 503; one finds out whether it is back",
        degrade="of several, one that fails is left alone; while all are, all are asked",
    ),
}  # fmt: skip
CAUSE_OF: Final[Mapping[Dependency, Cause]] = {
    Dependency.DIRECTORY: Cause.DIRECTORY_UNAVAILABLE,
    Dependency.GEO: Cause.GEO_UNAVAILABLE,
    Dependency.OTLP: Cause.OTLP_UNAVAILABLE,
    Dependency.RECORDS: Cause.RECORDS_UNAVAILABLE,
}
OUT: Final = frozenset({502, 503, 504})  # what an upstream answers where it gives none
OF_THE_EXCHANGE: Final = tuple([cause for cause in Cause if cause not in CAUSE_OF.values()])
DEFAULT_CAUSES: Final[Mapping[Cause, Fail]] = dict.fromkeys(OF_THE_EXCHANGE, Fail.CLOSED) | {
    Cause.CREDENTIAL_MISSING: Fail.OPEN,
    Cause.CREDENTIAL_UNKNOWN: Fail.OPEN,
}
DEFAULT_DEPENDENCIES: Final[Mapping[Dependency, Fail]] = {name: row.default for name, row in DEPENDENCIES.items()}
UNPASSABLE: Final = frozenset({Cause.ROUTE_UNRECOGNISED, Cause.BODY_TOO_LARGE})
_BY_CAUSE: Final = {cause: name for name, cause in CAUSE_OF.items()}


@dataclass(frozen=True, slots=True)
class FailModes:
    """The declared answer to everything that can go wrong; what is not named has the default of its table."""

    causes: Mapping[Cause, Fail] = field(default_factory=dict)
    dependencies: Mapping[Dependency, Fail] = field(default_factory=dict)

    def of(self, name: Dependency) -> Fail:
        """What is done while a dependency fails."""
        return self.dependencies.get(name, DEFAULT_DEPENDENCIES[name])

    def refuses(self, cause: Cause | None) -> bool:
        """Whether an exchange with this cause is to be refused. A dependency that degrades says itself when it gives none."""
        if cause is None:
            return False
        if (name := _BY_CAUSE.get(cause)) is not None:
            return self.of(name) is not Fail.OPEN
        return self.causes.get(cause, DEFAULT_CAUSES[cause]) is Fail.CLOSED

    def under(self, mode: Mode) -> FailModes:
        """These fail modes below an overall mode: in shadow, only what cannot be passed on at all is refused."""
        if mode is Mode.ENFORCE:
            return self
        causes = {cause: Fail.CLOSED if cause in UNPASSABLE and self.refuses(cause) else Fail.OPEN for cause in OF_THE_EXCHANGE}
        return FailModes(causes, dict.fromkeys(Dependency, Fail.OPEN))
