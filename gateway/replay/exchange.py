"""One recorded exchange, and what is made into one at once: an audit record, which brings the signal values of its day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from gateway.audit.record import recorded_answer, recorded_signals
from gateway.errors import Place, RecordError
from gateway.facts import Answer, Cause, End, Facts, Usage
from gateway.signals import Catalogue
from gateway.values import parse_timestamp


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded exchange. id: derived from the record, so that a replay is repeatable.

    label: its class, if labelled. scenario: of simulated traffic, the scenario it is of.
    """

    place: Place
    id: str
    facts: Facts
    answer: Answer
    label: str | None = None
    scenario: str | None = None


class UnansweredError(RecordError):
    """The account directory did not answer for a record: what would be said of this one and all that follow would be wrong."""


def recorded(entry: Mapping[str, Any], place: Place, catalogue: Catalogue) -> Exchange:
    """The exchange of an audit record, with the signal values of its day. Raises what a part of the wrong kind raises."""
    exchange = entry["exchange"]
    facts = Facts(
        at=parse_timestamp(entry["at"]), method=exchange["method"], path=exchange["path"],
        http_version=exchange.get("http_version", "1.1"), protocol=exchange.get("protocol"), route=exchange.get("route"),
        size=exchange.get("size", 0), seen=exchange.get("seen"),
        cause=Cause(exchange["cause"]) if "cause" in exchange else None, recorded=recorded_signals(entry, catalogue),
    )  # fmt: skip
    answered = entry.get("answer", {})
    answer = Answer(answered.get("status"), Usage(**answered.get("usage", {})), End(answered.get("end", "complete")),
                    answered.get("model"), events=answered.get("events", 0), size=answered.get("size", 0),
                    recorded=recorded_answer(entry, catalogue))  # fmt: skip
    return Exchange(place, str(entry["id"]), facts, answer, entry.get("label"))


def is_capture(entry: object) -> bool:
    """Whether a line holds a captured request, not an audit record."""
    return isinstance(entry, dict) and "signals" not in entry and "headers" in entry


def identity(place: Place, ts: object) -> str:
    """The id of an exchange whose record states none: of its file's name, its line and its time."""
    return hashed(f"{Path(place.path).name}:{place.line}:{ts}")


def hashed(text: str) -> str:
    """An id of 32 hexadecimal digits for any text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
