"""Compact records in Parquet: the shape of a file, its writer and its reader. Needs the extra `columns`.

Every file states its shape under `sluicegate` in its metadata: `{"format", "version", "signals"}`, the signals being its
columns with a dot. Text is dictionary-encoded, sets are lists of text, ids are 16 bytes. Rows stand in order of time; a file
is written and read by row groups, so that neither end ever holds more than one of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.audit.stored import is_url, remote
from gateway.errors import Place, RecordError
from gateway.replay.compact import FACTS, REQUIRED, VERSION, Rows, columns_of
from gateway.replay.exchange import Exchange
from gateway.signals import Catalogue
from gateway.values import Type

MAGIC: Final = b"PAR1"
FORMAT: Final = "sluicegate compact records"
KEY: Final = b"sluicegate"
ROWS: Final = 65_536
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_NUMBERS: Final = {"int": pa.int64(), "duration": pa.int64(), "timestamp": pa.int64(), "asn": pa.int64(), "float": pa.float64(),
                   "bool": pa.bool_()}  # fmt: skip
_ID: Final = pa.binary(16)


def arrow_type(kind: Type) -> pa.DataType:
    """The Arrow type of a signal's column."""
    if kind.element:
        return pa.list_(_NUMBERS.get(kind.element.name, pa.string()))
    return _NUMBERS.get(kind.name, _TEXT)


def shape(signals: Iterable[str], catalogue: Catalogue, facts: Iterable[str] = tuple(FACTS)) -> pa.Schema:
    """The schema of a file with these facts and signals, its metadata included. `at` and `id` are always there."""
    chosen, types = set(signals), columns_of(catalogue)
    kept = [name for name in FACTS if name in {*REQUIRED, *facts}]
    fields = [pa.field(name, _ID if name == "id" else arrow_type(FACTS[name]), name not in REQUIRED) for name in kept]
    fields += [pa.field(name, arrow_type(kind)) for name, kind in types.items() if name in chosen]
    told = {"format": FORMAT, "version": VERSION, "signals": sorted(chosen & types.keys())}
    return pa.schema(fields, metadata={KEY: json.dumps(told).encode()})


class Writer:
    """Writes rows in order of time. A file is whole once it is closed."""

    def __init__(self, target: Path | IO[bytes], schema: pa.Schema) -> None:
        self.schema = schema
        self._file = pq.ParquetWriter(target, schema, compression="zstd", write_statistics=["at"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, table: pa.Table) -> None:
        """Append one row group, of columns as `schema` has them."""
        self._file.write_table(table, row_group_size=max(1, table.num_rows))

    def rows(self, rows: Iterable[Mapping[str, Any]], size: int = ROWS) -> int:
        """Append rows (as `compact.row_of` makes them), `size` to a group; what a row lacks is null. How many there were."""
        feed, count = iter(rows), 0
        while held := [_packed(row) for row in islice(feed, size)]:
            self.write(pa.Table.from_pylist(held, self.schema))
            count += len(held)
        return count

    def close(self) -> None:
        self._file.close()


def _packed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "id": bytes.fromhex(row["id"])}


def told_shape(file: pq.ParquetFile, place: Place) -> dict[str, Any]:
    """What a file says of itself. Raises RecordError where it holds no compact records of a known version."""
    metadata = file.schema_arrow.metadata or {}
    try:
        told = json.loads(metadata.get(KEY, b"{}"))
    except ValueError:
        told = {}
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise RecordError(place, "is Parquet, but holds no compact records; `sluice simulate` and `sluice compact` write them")
    if told.get("version") != VERSION:
        raise RecordError(place, f"compact records of version {told.get('version')!r} are not known, only {VERSION}")
    return told


def opened(name: str, catalogue: Catalogue) -> pq.ParquetFile:
    """A file of compact records whose columns are of the catalogue's types. Raises RecordError."""
    place = Place(name)
    try:
        file = pq.ParquetFile(remote(name) if is_url(name) else name, memory_map=not is_url(name))
    except (OSError, pa.ArrowException) as error:
        raise RecordError(place, f"cannot be read as Parquet: {error}") from None
    told_shape(file, place)
    types = {**FACTS, **columns_of(catalogue)}
    for field in file.schema_arrow:
        wanted = _ID if field.name == "id" else arrow_type(types[field.name]) if field.name in types else None
        if wanted is not None and _bare(field.type) != _bare(wanted):
            raise RecordError(place, f"the column '{field.name}' is {field.type}, but must be {wanted}")
    return file


def _bare(kind: pa.DataType) -> pa.DataType:
    """A type without its encoding."""
    if pa.types.is_dictionary(kind):
        return _bare(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_bare(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def exchanges(name: str, catalogue: Catalogue, only: Collection[str] = ()) -> Iterator[Exchange]:
    """The exchanges of a file, in its order, a batch of rows in memory at a time. Raises RecordError, also for disorder.

    only: the signals that are read; all of them where none is named.
    """
    with opened(name, catalogue) as file:
        names = file.schema_arrow.names
        types = {**FACTS, **columns_of(catalogue)}
        kept = [name for name in names if "." not in name or (name in types and (not only or name in only))]
        rows, number, before = Rows(kept, catalogue, Place(name)), 0, None
        try:
            for batch in file.iter_batches(ROWS, columns=kept):
                for values in zip(*lists(batch, kept, types), strict=True):
                    number += 1
                    row = dict(zip(kept, values, strict=True))
                    place = Place(name, number, 1)
                    if before is not None and row["at"] < before:
                        raise RecordError(place, "is earlier than the row before it; compact records stand in order of time")
                    before = row["at"]
                    yield rows.exchange(row, place)
        except pa.ArrowException as error:
            raise RecordError(Place(name, number + 1, 1), f"the file is broken from here: {error}") from None


def lists(batch: pa.RecordBatch | pa.Table, names: Sequence[str], types: Mapping[str, Type]) -> list[list[Any]]:
    """The columns of a batch as lists of typed values."""
    found: list[list[Any]] = []
    sets: dict[tuple[Any, ...], frozenset[Any]] = {}
    for name in names:
        column = batch.column(name)
        values = column.to_pylist()
        if name == "id":
            values = [value.hex() for value in values]
        elif types[name].element:
            keys = [None if value is None else tuple(value) for value in values]
            values = [None if key is None else sets.setdefault(key, frozenset(key)) for key in keys]
        found.append(values)
    return found
