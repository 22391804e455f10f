"""A dry run from files to a report: what `sluice dry-run` does once its arguments are understood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import tee
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.audit.lines import line
from gateway.audit.record import record
from gateway.decision import Mode
from gateway.errors import RecordError
from gateway.failing import FailModes
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.replay.driver import DRY_RUN_KEY, Replayed, replay
from gateway.replay.exchange import Exchange
from gateway.replay.foreign.fields import DEFAULTS, Fields
from gateway.replay.sources import Reader
from gateway.report.counts import Counts
from gateway.report.labels import Labels
from gateway.sections import LARGEST_BODY
from gateway.state.limits import MAX_KEYS
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
    labels: Labels | None = None,
    decisions: Path | None = None,
    against: Policy | None = None,
    warm_up: int = 0,
    pictured: bool = False,
    on_error: Callable[[RecordError], None] | None = None,
    opened: Callable[[bytes], bytes] = bytes,
    fields: Fields = DEFAULTS,
    max_keys: int = MAX_KEYS,
) -> tuple[Counts, Reader]:
    """Replay record files through a policy; what was counted, and the reader with its counts.

    decisions: where to write one audit record per exchange. against: another policy that judges the same exchanges with a state
    of its own; the report then tells the difference. warm_up: for how long (µs) from the first exchange on they are judged and
    counted by measures and limits, but not reported.
    fields: of access logs. pictured: whether to gather what a page shows. max_keys: that the state keeps of each window.
    Raises RecordError for a file that cannot be opened.
    """
    reader = Reader(Intake(registry, hash_key, largest), registry.signals, on_error, opened, fields)
    counts, ends = Counts.of(policy, labels, against, pictured), None
    with decisions.open("wb") if decisions else nullcontext() as out:
        judging = [policy] if against is None else [policy, against]
        played = tee(_shown(reader.exchanges(names)), len(judging))
        runs = [replay(one, by, registry.signals, mode, fail, max_keys) for one, by in zip(played, judging, strict=True)]
        for here, *there in zip(*runs, strict=True):
            if out is not None:  # first of all: reports look at more signals than were needed
                out.write(line(entry_of(here)))
            at = here.exchange.facts.at
            ends = at + warm_up if ends is None else ends
            counts.take(here.observed, there[0].observed if there else None, warm=at < ends)
    return counts, reader


def entry_of(replayed: Replayed) -> dict[str, Any]:
    """The audit record of a replayed exchange, with its label where it has one."""
    entry, label = record(replayed.judgement, replayed.answer), replayed.exchange.label
    return {**entry, "label": label} if label else entry


def _shown(exchanges: Iterator[Exchange]) -> Iterator[Exchange]:
    """The exchanges, with progress on standard error."""
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for number, exchange in enumerate(exchanges, 1):
            if number % 256 == 0:
                progress.update(task, completed=number)
            yield exchange
