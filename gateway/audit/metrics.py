"""The table of metrics: one row an instrument, read by the Prometheus endpoint and by the OTLP exporter alike (`exposed`).

Names are OpenTelemetry's: those of its semantic conventions where they exist, else `sluice.…`; Prometheus' are made of them as
its specification says (dots become `_`, then the unit, then `_total`). A row reads what stands already in integers or in
health: nothing is counted for it alone. Labels are words of the policy and of tables; models and routes have caps (`counted`).
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.audit.counted import Counted
from gateway.breaker import Position
from gateway.dependencies import Dependencies
from gateway.tally import Histogram

Value = int | float | Histogram
Point = tuple[tuple[str, ...], Value]


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Source:
    """What rows read. health: that of the process, as /healthz tells it; trips: round trips to shared state, in seconds."""

    counted: Counted
    dependencies: Dependencies
    health: Mapping[str, Any]
    judged: int = 0
    trips: Histogram | None = None
    exports: Mapping[str, int] = field(default_factory=dict)


class Instrument(NamedTuple):
    """One metric. unit: as UCUM writes it. read: its points, each the values of the labels and a number."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[Source], Iterable[Point]]


def _at(*keys: str) -> Callable[[Source], Iterable[Point]]:
    """The number at a place in health; no point where there is none."""

    def read(source: Source) -> Iterable[Point]:
        found: Any = source.health
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return [((), found)] if isinstance(found, (int, float)) else []

    return read


def _several(*places: tuple[str, tuple[str, ...]]) -> Callable[[Source], Iterable[Point]]:
    """Numbers at places in health, each with a word of its own as its label."""
    reads = [(word, _at(*keys)) for word, keys in places]
    return lambda source: [((word,), value) for word, read in reads for _, value in read(source)]


def _breakers(number: Callable[[Any], float]) -> Callable[[Source], Iterable[Point]]:
    return lambda source: [((str(name), where), number(one)) for name, where, one in source.dependencies.breakers()]


def _policy(source: Source) -> Iterable[Point]:
    policy = source.health["policy"]
    return [((str(policy["digest"]), str(policy["version"]), str(policy["mode"])), 1)]


def _memory(source: Source) -> Iterable[Point]:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no such file system here: the most it ever had
        return [((), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024)]
    return [((), pages * os.sysconf("SC_PAGE_SIZE"))]


def _histogram(found: Histogram | None) -> Iterable[Point]:
    return [((), found)] if found is not None else []


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_POSITIONS: Final = {Position.CLOSED: 0.0, Position.HALF_OPEN: 0.5, Position.OPEN: 1.0}
_ROUTE: Final = ("sluice.protocol", "http.route", "http.response.status_code")
_CALL: Final = ("gen_ai.provider.name", "gen_ai.operation.name", "gen_ai.request.model")
_TOKENS: Final = ("gen_ai.provider.name", "gen_ai.token.type", "gen_ai.request.model")
INSTRUMENTS: Final = (
    Instrument("http.server.request.duration", _H, "s", "requests, to the last byte", _ROUTE,
        lambda s: s.counted.requests.items()),
    Instrument("gen_ai.client.operation.duration", _H, "s", "calls that went upstream, by model: 50, then `other`", _CALL,
        lambda s: s.counted.calls.items()),
    Instrument("gen_ai.client.token.usage", _H, "{token}", "tokens of an answer, as upstreams tell them", _TOKENS,
        lambda s: s.counted.tokens.items()),
    Instrument("sluice.decisions", _C, "{decision}", "decisions by what was done and what shadow rules would do",
        ("action", "would", "mode"), lambda s: s.counted.decisions.items()),
    Instrument("sluice.refusals", _C, "{refusal}", "refused requests by public code", ("code",),
        lambda s: s.counted.refusals.items()),
    Instrument("sluice.rules", _C, "{end}", "ends of rules: match, unknown, error", ("rule", "end", "mode"),
        lambda s: s.counted.rules.items()),
    Instrument("sluice.limits", _C, "{take}", "limits that were looked at: admitted or refused", ("limit", "result", "mode"),
        lambda s: s.counted.limits.items()),
    Instrument("sluice.causes", _C, "{request}", "requests that lacked something, whatever was done", ("cause",),
        lambda s: s.counted.causes.items()),
    Instrument("sluice.judge.duration", _H, "s", "judging, without waiting for shared state's turn", (),
        lambda s: _histogram(s.counted.judged)),
    Instrument("sluice.first_byte.duration", _H, "s", "from a request to the first byte of its answer", (),
        lambda s: _histogram(s.counted.first_bytes)),
    Instrument("sluice.exchanges.open", _G, "{exchange}", "judged and not settled: answers under way, streams among them", (),
        lambda s: [((), s.judged - s.counted.settled)]),
    Instrument("sluice.request.size", _C, "By", "bytes of request bodies", (), lambda s: [((), s.counted.request_bytes)]),
    Instrument("sluice.answer.size", _C, "By", "bytes of answers that were passed on", (),
        lambda s: [((), s.counted.answer_bytes)]),
    Instrument("sluice.upstream.answers", _C, "{answer}", "answers by class of status, or how there was none",
        ("sluice.protocol", "result"), lambda s: s.counted.answers.items()),
    Instrument("sluice.upstream.connections", _G, "{connection}", "connections to upstreams, and requests that wait for one",
        ("state",),
        _several(*((word, ("parts", "upstreams", word)) for word in ("connections", "idle", "waiting")))),
    Instrument("sluice.client.connections", _G, "{connection}", "connections of clients", (),
        _at("parts", "clients", "connections")),
    Instrument("sluice.client.turned_away", _C, "{connection}", "connections that were one too many", (),
        _at("parts", "clients", "turned_away")),
    Instrument("sluice.breaker.position", _G, "1", "0 closed, 0.5 half open, 1 open", ("dependency", "where"),
        _breakers(lambda one: _POSITIONS[one.position])),
    Instrument("sluice.breaker.opened", _C, "{time}", "how often a breaker opened", ("dependency", "where"),
        _breakers(lambda one: one.opened)),
    Instrument("sluice.dependency.touched", _C, "{request}",
        "requests that a failing dependency touched, by what is declared", ("dependency", "mode"),
        lambda s: s.counted.failing.items()),
    Instrument("sluice.state.duration", _H, "s", "round trips to shared state", (), lambda s: _histogram(s.trips)),
    Instrument("sluice.state.failures", _C, "{batch}", "batches that shared state did not answer", (),
        _at("parts", "state", "failures")),
    Instrument("sluice.state.keys", _G, "{key}", "keys of windows and limits, where state is in memory", (),
        _at("parts", "state", "keys")),
    Instrument("sluice.state.leases", _G, "{exchange}", "exchanges under way that hold slots", (),
        _at("parts", "state", "leases")),
    Instrument("sluice.state.share", _C, "{take}", "takes from this process's own share of limits", ("result",),
        _several(("admitted", ("parts", "state", "share", "taken")), ("refused", ("parts", "state", "share", "refused")))),
    Instrument("sluice.directory.entries", _G, "{credential}", "credentials remembered: accounts, and those not listed",
        ("kind",), _several(("account", ("parts", "directory", "accounts")), ("absent", ("parts", "directory", "absent")))),
    Instrument("sluice.directory.failures", _C, "{look-up}", "look-ups that failed, or found no free slot in time", ("why",),
        _several(("failed", ("parts", "directory", "failures")), ("turned_away", ("parts", "directory", "turned_away")))),
    Instrument("sluice.records", _C, "{record}", "audit records by what became of them", ("result",),
        _several(*((word, ("parts", "audit", word)) for word in ("written", "spilled", "failed", "unrecorded")))),
    Instrument("sluice.records.waiting", _G, "{record}", "settled exchanges whose record waits to be laid out", (),
        _at("parts", "audit", "waiting")),
    Instrument("sluice.spans", _C, "{span}", "spans by what became of them", ("result",),
        _several(*((word, ("parts", "traces", word)) for word in ("made", "exported", "lost")))),
    Instrument("sluice.metrics.exports", _C, "{export}", "OTLP exports of metrics", ("result",),
        lambda s: [((word,), count) for word, count in s.exports.items()]),
    Instrument("sluice.policy", _G, "1", "always 1: the policy in force", ("digest", "version", "mode"), _policy),
    Instrument("sluice.policy.reloads", _C, "{reload}", "reloads that put a policy in force", (), _at("policy", "reloads")),
    Instrument("sluice.policy.refused", _G, "1", "1 while the last reload was refused", (),
        lambda s: [((), int(bool(s.health["policy"].get("problem"))))]),
    Instrument("sluice.halted", _G, "1", "1 while an operator's halt has everything judge in shadow", (),
        lambda s: [((), int("halt" in s.health["policy"]))]),
    Instrument("process.memory.usage", _G, "By", "resident memory", (), _memory),
    Instrument("process.cpu.time", _C, "s", "CPU time, of user and system", (), lambda s: [((), time.process_time())]),
)  # fmt: skip
