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

SIZE: Final = 2**20
_NEVER: Final = 2**63 - 1
_END: Final = -1


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
                columns = {name: _whole(table.column(name)) for name in table.column_names}
                yield Chunk(columns, self.catalogue, self.kept)

    def exchanges(self, chunk: Chunk, rows: Ints) -> list[Exchange]:
        """The exchanges of some rows of a chunk. Raises RecordError."""
        batch = _taken(pa.table(dict(chunk.arrays)), rows)
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
            for read in _read(self._files[place], self.kept[place], self.size):
                table = read.cast(self._schemas[place]).append_column(FILE, pa.array(np.full(len(read), place, np.int32)))
                at = _at(table)
                back = np.flatnonzero(np.diff(at, prepend=at[0] if before is None else before) < 0)
                if len(back):
                    told = "is earlier than the row before it; compact records stand in order of time"
                    raise RecordError(Place(name, number + int(back[0]) + 1, 1), told)
                before, number = at[-1], number + len(at)
                yield table
        except pa.ArrowException as error:
            raise RecordError(Place(name, number + 1, 1), f"the file is broken from here: {error}") from None


def _read(file: pq.ParquetFile, columns: list[str], size: int) -> Iterator[pa.Table]:
    """The rows of a file, at most so many at a time: whole row groups as far as may be, which are read in half the time."""
    lot, rows = list[int](), 0
    for group in [*range(file.num_row_groups), _END]:
        many = size if group == _END else file.metadata.row_group(group).num_rows
        if lot and rows + many > size:
            yield pa.concat_tables([file.read_row_group(one, columns) for one in lot])
            lot, rows = [], 0
        if group != _END and many > size:
            yield from (pa.Table.from_batches([batch]) for batch in file.iter_batches(size, [group], columns))
        elif group != _END and many:
            lot, rows = [*lot, group], rows + many


def _whole(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column in one piece; with several dictionaries it stays as it is, because to join them costs more than all else."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return column if pa.types.is_dictionary(column.type) else column.combine_chunks()


def _taken(table: pa.Table, rows: Ints) -> pa.Table:
    """Some rows (in any order) of a table whose columns may have several dictionaries."""
    parts, order, before = [], [], 0
    for batch in table.to_batches():
        here = np.flatnonzero((rows >= before) & (rows < before + len(batch)))
        if len(here):
            parts.append(pa.Table.from_batches([batch.take(pa.array(rows[here] - before))]))
            order.append(here)
        before += len(batch)
    if not parts:
        return table.slice(0, 0)
    places = np.argsort(np.concatenate(order))
    return _joined(parts).take(pa.array(places)) if len(parts) > 1 else parts[0]


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
