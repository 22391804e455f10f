"""Replay on several processes or machines: workers of a Dask cluster read the measures, whoever started the run decides.

Sharding by account alone would break every counter on an address, a network or a template. So measures are shared out by
their keys: all measures under one set of signals are read by one worker, which goes through the records itself, chunk after
chunk, and holds what they carry on. Their readings are joined here, row by row, and decisions are made as without a cluster:
the same bytes.

Workers need this package, the extra `columns`, and the records under the same names (a shared folder).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from distributed import Client, LocalCluster

from gateway.columns.measures import Measures
from gateway.columns.records import Records
from gateway.columns.windows import Reading
from gateway.errors import ClusterError
from gateway.language.measures import Measure
from gateway.registry import load
from gateway.state.limits import MAX_KEYS

_LOCAL: Final = "local:"
Readings = dict[str, Reading]


class Share:
    """What one worker does: some measures of all records. settings: of the registry, so that signals are the same there.

    size: of chunks; most: keys of a window.
    """

    def __init__(
        self, names: Sequence[str], settings: Mapping[str, Any], measures: Sequence[Measure], size: int, most: int
    ) -> None:
        catalogue = load(dict(settings)).signals
        signals = {name for measure in measures for name in _signals(measure)}
        self._measures = Measures(measures, {}, {}, most)
        self._chunks = Records(names, catalogue, signals, size).chunks()

    def read(self) -> Readings:
        """The readings of the next chunk, by label; nothing where there is none."""
        chunk = next(self._chunks, None)
        return {} if chunk is None else self._measures.read(chunk)


class Cluster:
    """Workers that read measures. address: `local:N` starts N processes here; else that of a scheduler (`tcp://host:8786`).

    To be used in a `with`. Raises ClusterError where nobody answers.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        try:
            target: Any = self._address
            if self._address.startswith(_LOCAL):
                count = int(self._address.removeprefix(_LOCAL))
                made: Any = LocalCluster  # whose package has no types
                target = made(n_workers=count, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
                self._stack.enter_context(target)
            client: Any = Client
            self._client = self._stack.enter_context(client(target, timeout=20))
        except (OSError, ValueError) as error:
            raise ClusterError(f"the cluster {self._address} cannot be reached: {error}; is a scheduler there?") from None
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def readings(
        self, names: Sequence[str], settings: Mapping[str, Any], measures: Iterable[Measure], size: int, most: int = MAX_KEYS
    ) -> Iterator[Readings]:
        """The readings of one chunk after another. Workers are one chunk ahead. Raises ClusterError."""
        workers = sorted(self._client.scheduler_info(n_workers=-1)["workers"])
        if not workers:
            raise ClusterError(f"the cluster {self._address} has no workers")
        shares = [share for share in shared(measures, len(workers)) if share]
        placed = zip(shares, workers, strict=False)
        actors = [
            self._client.submit(Share, names, settings, share, size, most, actor=True, workers=[worker], pure=False)
            for share, worker in placed
        ]
        standing = [actor.result() for actor in actors]
        asked = [actor.read() for actor in standing]
        while True:
            ahead = [actor.read() for actor in standing] if standing else []
            yield {label: reading for one in asked for label, reading in one.result().items()}
            asked = ahead


def shared(measures: Iterable[Measure], workers: int) -> list[list[Measure]]:
    """Measures shared out to workers: those under equal keys together, the largest lots first to whoever has least."""
    lots: dict[tuple[str, ...], list[Measure]] = {}
    for measure in measures:
        lots.setdefault(measure.per, []).append(measure)
    shares: list[list[Measure]] = [[] for _ in range(workers)]
    for _, lot in sorted(lots.items(), key=lambda item: (-len(item[1]), item[0])):
        min(shares, key=len).extend(lot)
    return shares


def _signals(measure: Measure) -> set[str]:
    filtered = measure.where.leaves() if measure.where is not None else ()
    return {*measure.per, *([measure.of] if measure.of else []), *(leaf.name for leaf in filtered)}
