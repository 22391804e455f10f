"""What answers issue, counted as the event engine does: under each value issued, right after the exchange itself.

Some measures count an exchange twice over: by the value that its call hands back, and once it is over by each value that its
answer issues (`gateway.counting`). Here a chunk then has a row more for each of these, behind the row whose answer it was; what
these rows would read is read by nobody. Which answers there are depends on the decisions, as with what else answers say.
"""

from __future__ import annotations

import numpy as np

from gateway.columns.chunk import Chunk
from gateway.columns.groups import Groups, Spans
from gateway.columns.values import Bools, Coded, Ints, Keys, lengths_of, texts_in
from gateway.language.measures import Measure
from gateway.signals import Catalogue


def issuing(measure: Measure, catalogue: Catalogue) -> dict[str, str]:
    """The signals in the key of a measure on requests whose values answers issue, each with the one that holds these."""
    named = {name: catalogue[name].issued_as for name in measure.per if name in catalogue}
    return {} if measure.settled else {name: issued for name, issued in named.items() if issued}


class Issued:
    """The rows of a chunk and those of what its answers issue. answered: of which rows an upstream's answer is known.

    pairs: signals in a key and what holds the issued ones. rows: of each the row of the chunk; own: which are that row itself.
    """

    def __init__(self, chunk: Chunk, per: tuple[str, ...], pairs: dict[str, str], answered: Bools) -> None:
        self._chunk, self._per, self._spans = chunk, per, dict[int, Spans]()
        self.told = {name: _told(chunk, issued) & answered for name, issued in pairs.items()}
        lengths = {name: lengths_of(chunk.arrays[issued]) if self.told[name].any() else None for name, issued in pairs.items()}
        own = np.arange(chunk.size)
        rows, places = [own], [np.full(chunk.size, -1)]
        values = dict[str, tuple[int, Coded]]()
        for name, issued in pairs.items():
            many = lengths[name]
            if many is not None:
                flat, told = texts_in(chunk.arrays[issued]), np.repeat(self.told[name], many)
                values[name] = len(values), Coded(flat.codes[told], flat.hashes)
                rows.append(np.repeat(own, np.where(self.told[name], many, 0)))
                places.append(np.full(len(rows[-1]), values[name][0]))
        order = np.argsort(np.concatenate(rows), kind="stable")
        self.rows: Ints = np.concatenate(rows)[order]
        source = np.concatenate(places)[order]
        self.own: Bools = source < 0
        self._columns = [self._column(name, source, values.get(name)) for name in per]

    def same(self, other: Issued) -> bool:
        """Whether both have the same rows."""
        return all(np.array_equal(told, other.told[name]) for name, told in self.told.items())

    def spans(self, length: int) -> Spans:
        """These rows by the measure's key, under windows of a length (µs)."""
        found = self._spans.get(length)
        if found is None:
            groups = Groups(Keys(self._columns, len(self.rows)))
            found = self._spans[length] = Spans(groups, self._chunk.at[self.rows], length)
        return found

    def _column(self, name: str, source: Ints, issued: tuple[int, Coded] | None) -> Coded:
        """The values of a signal in the key: what was handed back, or issued."""
        column = self._chunk.asked.column(name)
        codes, hashes = column.codes[self.rows], column.hashes
        if issued is not None:
            place, values = issued
            codes[source == place] = values.codes + np.int32(len(hashes))
            hashes = np.concatenate([hashes, values.hashes])
        return Coded(codes, hashes)


def _told(chunk: Chunk, issued: str) -> Bools:
    """Of which rows anything is known of what answers issued."""
    if issued not in chunk.arrays:
        return np.zeros(chunk.size, np.bool_)
    return np.asarray(chunk.arrays[issued].is_valid())
