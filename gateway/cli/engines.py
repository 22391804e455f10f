"""Which engine replays: event by event, which is the truth, or in columns, which gives the same and is many times as fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gateway.audit.stored import is_parquet
from gateway.cli.common import Complaints, tell_unopened
from gateway.config import Config
from gateway.errors import ExtraError, NotInColumnsError, Place
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.replay.dry_run import dry_run as by_events
from gateway.replay.foreign.fields import DEFAULTS, Fields
from gateway.report.counts import Counts
from gateway.report.labels import Labels
from gateway.state.limits import MAX_KEYS

if TYPE_CHECKING:
    from gateway.columns.cluster import Cluster
    from gateway.columns.dry_run import Run

_NEEDED = ("numpy", "polars", "pyarrow")


class Engine(StrEnum):
    """How exchanges are replayed. AUTO: in columns where all inputs are compact Parquet and nothing speaks against it."""

    AUTO = "auto"
    EVENTS = "events"
    COLUMNS = "columns"


ENGINE = click.option(
    "--engine", type=click.Choice([str(engine) for engine in Engine]), default=str(Engine.AUTO), show_default=True,
    help="events: one exchange after another. columns: many at once, of compact Parquet; the same result, much sooner.",
)  # fmt: skip
RESUME = click.option(
    "--resume", type=click.Path(path_type=Path), metavar="FILE",
    help="In columns: keep a checkpoint in FILE, go on from it if it is there, remove it at the end.",
)  # fmt: skip
CLUSTER = click.option(
    "--cluster", metavar="ADDRESS",
    help="In columns: have measures read by a Dask cluster, local:2 for two processes here, or tcp://HOST:8786.",
)  # fmt: skip

MAX = click.option(
    "--max-keys", type=click.IntRange(1_000), default=MAX_KEYS, show_default=True,
    help="How many keys of each window are kept. More than a gateway keeps, and busy windows forget nobody.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be replayed. against: another policy to compare with. decisions: where audit records go.

    pictured: whether to gather what a page shows. resume: where a checkpoint is kept. cluster: who reads measures. fields: of
    access logs. max_keys: that the state keeps of each window.
    """

    names: Sequence[str]
    policy: Policy
    registry: Registry
    settings: Config
    labels: Labels
    warm_up: int = 0
    decisions: Path | None = None
    against: Policy | None = None
    pictured: bool = False
    resume: Path | None = None
    cluster: str | None = None
    fields: Fields = DEFAULTS
    max_keys: int = MAX_KEYS

    def run(self, engine: Engine) -> tuple[Counts, int, int]:
        """What was counted, and how many records were read and could not be.

        Raises RecordError; NotInColumnsError and ExtraError where columns were asked for and cannot be had.
        """
        if engine is Engine.COLUMNS or (engine is Engine.AUTO and self._suits()):
            try:
                return self._columns()
            except NotInColumnsError as error:
                if engine is Engine.COLUMNS or self._bound:
                    raise
                click.echo(f"replayed event by event, because columns cannot hold {error}", err=True)
        if self._bound:
            raise NotInColumnsError("these records, and only what is in columns can be taken up again, or shared out")
        settings, opener, complaints = self.settings, self.settings.audit.opens(), Complaints()
        counts, reader = by_events(
            self.names, self.policy, self.registry, hash_key=settings.hash_key, fail=settings.fail, mode=settings.mode,
            largest=settings.largest_body, labels=self.labels, decisions=self.decisions, against=self.against,
            warm_up=self.warm_up, pictured=self.pictured, on_error=complaints, opened=opener, fields=self.fields,
            max_keys=self.max_keys,
        )  # fmt: skip
        complaints.rest()
        tell_unopened(opener)
        for why, count in sorted(reader.passed.items()):
            click.echo(f"passed over: {count:,} {why}", err=True)
        return counts, reader.read, reader.unreadable

    @property
    def _bound(self) -> bool:
        """Whether something was asked for that only columns have."""
        return self.resume is not None or self.cluster is not None

    def _suits(self) -> bool:
        """Whether columns are worth it. Audit records are made one by one, so with them nothing would be gained."""
        there = all(find_spec(name) for name in _NEEDED)
        gained = self._bound or self.decisions is None
        alone = self.against is None and not self.pictured
        return there and gained and alone and all(map(is_parquet, self.names))

    def _columns(self) -> tuple[Counts, int, int]:
        for name in _NEEDED:
            if not find_spec(name):
                raise ExtraError("replaying in columns", name, "columns")
        if self.against is not None:
            raise NotInColumnsError("a comparison of two policies")
        if self.pictured:
            raise NotInColumnsError("the pictures of a page, for which every exchange is looked at by itself")
        if other := [name for name in self.names if not is_parquet(name)]:
            raise NotInColumnsError(f"{Place(other[0])}, which is no Parquet (`sluice compact` makes it)")
        from gateway.columns.dry_run import Asked, dry_run  # an extra: only where columns are used

        asked = Asked(
            self.policy, self.registry.signals, self.settings.mode, self.settings.fail, self.labels, self.warm_up, self.max_keys
        )  # fmt: skip
        with ExitStack() as stack:
            measured = None
            if self.cluster is not None:
                cluster = stack.enter_context(_cluster(self.cluster))
                settings = self.settings.settings
                measured = partial(cluster.readings, self.names, settings, most=self.max_keys)
            progress = stack.enter_context(_progress())
            run = dry_run(self.names, asked, self.decisions, _shown(progress), resume=self.resume, measured=measured)
        return run.counts, run.done, 0


def _cluster(address: str) -> Cluster:
    try:
        from gateway.columns.cluster import Cluster  # an extra: only where a cluster is asked for
    except ModuleNotFoundError:
        raise ExtraError("a cluster", "distributed", "scale") from None
    return Cluster(address)


def _progress() -> Progress:
    """Progress on standard error, with the rate and the time left."""
    parts = (TextColumn("replaying in columns"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    return Progress(*parts, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _shown(progress: Progress) -> Callable[[Run, int], None]:
    task = progress.add_task("", total=None, rate="")

    def told(run: Run, total: int) -> None:
        elapsed = progress.tasks[task].elapsed or 0
        rate = f"{run.done / elapsed:,.0f}/s" if elapsed else ""
        progress.update(task, completed=run.done, total=total, rate=rate)

    return told
