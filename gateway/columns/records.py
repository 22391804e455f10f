"""Files of compact records, read as chunks of columns in order of time, a chunk in memory at a time.

Several files are merged as the event engine merges them: by time, and at equal times in the order they were named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.columns.chunk import FILE, Chunk
from gateway.columns.values import Ints
from gateway.errors import Place, RecordError
from gateway.replay.compact import FACTS, Rows, columns_of
from gateway.replay.exchange import Exchange
from gateway.replay.parquet import arrow_type, lists, opened
from gateway.signals import Catalogue
from gateway.values import Type

SIZE: Final = 2**18
_NEVER: Final = 2**63 - 1


class Records:
    """Some files. signals: which of them to read (None: all). size: most rows that are read at once."""

    def __init__(
        self, names: Sequence[str], catalogue: Catalogue, signals: Iterable[str] | None = None, size: int = SIZE
    ) -> None:
        self.names, self.catalogue, self.size = names, catalogue, size
        self.types = {**FACTS, **columns_of(catalogue)}
        wanted = self.types.keys() if signals is None else {*FACTS, *signals}
        self._files = [opened(name, catalogue) for name in names]
        self.kept = [[name for name in _named(file) if name in wanted and name in self.types] for file in self._files]
        self._rows = [Rows(kept, catalogue, Place(name)) for name, kept in zip(names, self.kept, strict=True)]
        self._schemas = [_schema(kept, self.types) for kept in self.kept]
        self.total = sum(file.metadata.num_rows for file in self._files)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def chunks(self, skip: int = 0) -> Iterator[Chunk]:
        """The chunks after the first `skip` of them. Raises RecordError where a file is broken or out of order."""
        for number, table in enumerate(self._merged()):
            if number >= skip:
                yield Chunk(
                    {name: table.column(name).combine_chunks() for name in table.column_names}, self.catalogue, self.kept
                )

    def exchanges(self, chunk: Chunk, rows: Ints) -> list[Exchange]:
        """The exchanges of some rows of a chunk. Raises RecordError."""
        places = pa.array(rows)
        batch = pa.table({name: array.take(places) for name, array in chunk.arrays.items()})
        files = batch.column(FILE).to_pylist()
        names = [name for name in batch.column_names if name != FILE]
        held = [{*kept} for kept in self.kept]
        found = []
        for file, values in zip(files, zip(*lists(batch, names, self.types), strict=True), strict=True):
            row = {name: value for name, value in zip(names, values, strict=True) if name in held[file]}
            found.append(self._rows[file].exchange(row, Place(self.names[file])))
        return found

    def _merged(self) -> Iterator[pa.Table]:
        """What all files hold, in order of time. Rows wait until every file is known to hold no earlier one."""
        if len(self.names) == 1:  # as it is read: joining tables costs more than all else
            yield from self._tables(0)
            return
        streams = dict(enumerate(map(self._tables, range(len(self.names)))))
        waiting = {place: table for place, stream in streams.items() if (table := next(stream, None)) is not None}
        going = {*waiting}
        while waiting:
            bound = min((_at(waiting[place])[-1] for place in going), default=_NEVER)
            upto = {place: int(np.searchsorted(_at(table), bound)) for place, table in waiting.items()}
            if parts := [waiting[place].slice(0, rows) for place, rows in upto.items() if rows]:
                whole = _joined(parts)
                yield whole.take(pa.array(np.argsort(_at(whole), kind="stable"))) if len(parts) > 1 else whole
            waiting = {place: table.slice(upto[place]) for place, table in waiting.items() if upto[place] < table.num_rows}
            for place in [place for place in going if _at(waiting[place])[-1] == bound]:
                if (more := next(streams[place], None)) is None:
                    going.discard(place)
                else:
                    waiting[place] = _joined([waiting[place], more])

    def _tables(self, place: int) -> Iterator[pa.Table]:
        """The tables of one file, checked to be in order of time."""
        name, before, number = self.names[place], None, 0
        try:
            for batch in self._files[place].iter_batches(self.size, columns=self.kept[place]):
                table = (
                    pa.Table.from_batches([batch])
                    .cast(self._schemas[place])
                    .append_column(FILE, pa.array(np.full(batch.num_rows, place, np.int32)))
                )
                at = _at(table)
                back = np.flatnonzero(np.diff(at, prepend=at[0] if before is None else before) < 0)
                if len(back):
                    told = "is earlier than the row before it; compact records stand in order of time"
                    raise RecordError(Place(name, number + int(back[0]) + 1, 1), told)
                before, number = at[-1], number + len(at)
                yield table
        except pa.ArrowException as error:
            raise RecordError(Place(name, number + 1, 1), f"the file is broken from here: {error}") from None


def _named(file: pq.ParquetFile) -> list[str]:
    found: list[str] = file.schema_arrow.names
    return found


def _schema(names: Sequence[str], types: Mapping[str, Type]) -> pa.Schema:
    return pa.schema([(name, pa.binary(16) if name == "id" else arrow_type(types[name])) for name in names])


def _at(table: pa.Table) -> Ints:
    found: Ints = table.column("at").to_numpy()
    return found


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()
