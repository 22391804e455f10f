"""Compact records as the search for clusters sees them. Needs the extra `columns` where they are Parquet.

Of a row only the signals are read that tie accounts (`clusters.records.SIGNALS`). A column that is not there is not recorded,
a null is missing; an account whose org is null is nobody's, as in audit records that miss `account.org`. Declared workloads
are not known of compact records, so no exchange counts as declared.
"""

from __future__ import annotations

from gateway.clusters.records import REFUSALS, SIGNALS, Seen, texts_of
from gateway.errors import Place, RecordError
from gateway.replay.exchange import Exchange
from gateway.signals import Catalogue
from gateway.values import Failed, Missing

NO_PARQUET = "is Parquet; install sluicegate[columns] to read it"


def take(seen: Seen, name: str, catalogue: Catalogue) -> None:
    """Take all exchanges of a Parquet file. Raises RecordError, also where the extra is missing."""
    try:
        from gateway.replay.parquet import exchanges  # an extra: only where Parquet is read
    except ImportError:
        raise RecordError(Place(name), NO_PARQUET) from None
    for exchange in exchanges(name, catalogue, SIGNALS):
        sight(seen, exchange)


def sight(seen: Seen, exchange: Exchange) -> None:
    """Take one exchange that was recorded."""
    held = exchange.facts.recorded or {}
    told = {
        name: texts_of(name, held[name]) for name in SIGNALS if name in held and not isinstance(held[name], (Missing, Failed))
    }
    usage, status = exchange.answer.usage, exchange.answer.status
    nobody = "account.org" in held and "account.org" not in told
    did = (usage.input_tokens or 0, usage.output_tokens or 0, status in REFUSALS, False)
    seen.exchange(told, exchange.facts.at, exchange.place, did, nobody)
    seen.named(exchange.id.encode())
