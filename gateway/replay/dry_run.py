"""A dry run from files to a report: what `sluice dry-run` does once its arguments are understood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.audit.record import record
from gateway.audit.trail import line
from gateway.decision import Mode
from gateway.enforcement import FailModes
from gateway.errors import RecordError
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.replay.driver import DRY_RUN_KEY, replay
from gateway.replay.report import Report
from gateway.replay.sources import Exchange, Reader
from gateway.sections import LARGEST_BODY
from gateway.web.intake import Intake


def dry_run(
    names: Sequence[str],
    policy: Policy,
    registry: Registry,
    *,
    hash_key: bytes = DRY_RUN_KEY,
    fail: FailModes | None = None,
    mode: Mode = Mode.ENFORCE,
    largest: int = LARGEST_BODY,
    labels: Mapping[str, str] | None = None,
    decisions: Path | None = None,
    on_error: Callable[[RecordError], None] | None = None,
) -> tuple[Report, Reader]:
    """Replay record files through a policy; the report, and the reader with its counts.

    decisions: where to write one audit record per exchange. Raises RecordError for a file that cannot be opened.
    """
    reader = Reader(Intake(registry, hash_key, largest), registry.signals, on_error)
    report = Report(policy, labels)
    with decisions.open("wb") if decisions else nullcontext() as out:
        for replayed in replay(_shown(reader.exchanges(names)), policy, registry.signals, mode, fail):
            report.add(replayed)
            if out is not None:
                entry, label = record(replayed.judgement, replayed.answer), replayed.exchange.label
                out.write(line({**entry, "label": label} if label else entry))
    return report, reader


def _shown(exchanges: Iterator[Exchange]) -> Iterator[Exchange]:
    """The exchanges, with progress on standard error."""
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for number, exchange in enumerate(exchanges, 1):
            if number % 256 == 0:
                progress.update(task, completed=number)
            yield exchange
