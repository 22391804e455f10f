"""Labels by account or org: what is known of callers beside the records, read strictly from CSV, JSON lines or YAML.

A label is a word such as `distill`, `benchmark` or `product`. Of an account that is named by itself and by its org, its own
label holds; a file's labels hold before those in the records. Which labels mean harvesting is asked for apart: all others are
honest, and an account without a label is neither.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import LoadError, Place, Problem, did_you_mean
from gateway.strict.document import Node, contents, decoded, parse
from gateway.strict.shapes import Problems

HARVEST: Final = ("distill",)
LARGEST: Final = 256 * 2**20
LONGEST_LABEL: Final = 64
WHOSE: Final = ("account", "org")
_FIRST_WORD: Final = re.compile(r"[\W_]")
Row = tuple[Place, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels by account and by org. harvest: those, whole or by their first word, that mean harvesting."""

    accounts: Mapping[str, str] = field(default_factory=dict)
    orgs: Mapping[str, str] = field(default_factory=dict)
    harvest: tuple[str, ...] = HARVEST

    def of(self, account: str, org: str | None, own: str | None) -> str | None:
        """The label of an exchange. own: the one that stands in its record."""
        found = self.accounts.get(account)
        if found is None and org is not None:
            found = self.orgs.get(org)
        return own if found is None else found

    def harvests(self, label: str | None) -> bool:
        """Whether a label means harvesting: `distill`, and so `distill-precursor` and `distill/ring`."""
        return label is not None and (label in self.harvest or _FIRST_WORD.split(label, maxsplit=1)[0] in self.harvest)

    def benign(self, label: str | None) -> bool:
        """Whether somebody said that it is honest: a label, and none that means harvesting."""
        return label is not None and not self.harvests(label)


def read_labels(path: Path, harvest: tuple[str, ...] = HARVEST) -> Labels:
    """The labels of a file. Raises LoadError with every problem in it."""
    read = _READERS.get(path.suffix)
    if read is None:
        known = ", ".join(_READERS)
        raise LoadError([Problem(Place(str(path)), f"is no file of labels: it ends in none of {known}", "name such a file")])
    problems = Problems()
    found: dict[str, dict[str, str]] = {who: {} for who in WHOSE}
    for place, row in read(path, problems):
        _take(place, row, found, problems)
    if not problems.found and not any(found.values()):
        problems.add(Place(str(path)), "holds no label", "write lines such as: account,label")
    if problems.found:
        raise LoadError(problems.found)
    return Labels(found["account"], found["org"], harvest)


def _take(place: Place, row: Mapping[str, object], found: dict[str, dict[str, str]], problems: Problems) -> None:
    """Take one row: exactly one of account and org, and a label that does not contradict an earlier one."""
    named = [who for who in WHOSE if row.get(who) not in (None, "")]
    label = row.get("label")
    if unknown := [key for key in row if key not in (*WHOSE, "label")]:
        mend = did_you_mean(unknown[0], (*WHOSE, "label"))
        problems.add(place, f"unknown field '{unknown[0]}'", mend)
        return
    if len(named) != 1:
        problems.add(place, f"a label is of one account or one org; here {'both are' if named else 'neither is'} named")
        return
    name = row[named[0]]
    if not isinstance(name, str):
        problems.add(place, f"{named[0]} must be text, not {name!r}", "put it in quotes")
    elif not isinstance(label, str) or not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
        problems.add(place, f"the label of {name!r} must be a word of at most {LONGEST_LABEL} characters, not {label!r}")
    elif found[named[0]].setdefault(name, label.strip()) != label.strip():
        problems.add(place, f"{named[0]} {name!r} is labelled {label.strip()!r} here and {found[named[0]][name]!r} before")


def _csv(path: Path, problems: Problems) -> Iterator[Row]:
    rows = csv.reader(io.StringIO(_text(path).removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if "label" not in header or not {*WHOSE} & {*header} or len({*header}) < len(header):
            problems.add(Place(str(path), 1, 1), "the first row must name the columns: account (or org, or both) and label")
            return
        begins = rows.line_num + 1
        for row in rows:
            place, begins = Place(str(path), begins, 1), rows.line_num + 1
            if row and len(row) != len(header):
                problems.add(
                    place, f"has {len(row)} cells, not {len(header)} as the first row", "put a cell with commas in quotes"
                )
            elif row:
                yield place, dict(zip(header, map(str.strip, row), strict=True))
    except csv.Error as error:
        problems.add(Place(str(path), rows.line_num, 1), f"is not CSV: {error}")


def _lines(path: Path, problems: Problems) -> Iterator[Row]:
    for number, text in enumerate(_text(path).split("\n"), 1):
        place = Place(str(path), number, 1)
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            problems.add(place, f"is not JSON: {error}")
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            problems.add(place, "is not a JSON object", 'write {"account": …, "label": …}')


def _tree(path: Path, problems: Problems) -> Iterator[Row]:
    """A mapping of accounts to labels, or the two mappings `accounts` and `orgs`."""
    top = parse(_text(path), str(path))
    if not isinstance(top.value, dict):
        problems.add(top.place, f"must be a mapping of accounts to labels, not {top.kind}")
        return
    sections = {"accounts": "account", "orgs": "org"}
    apart = all(key in sections and isinstance(node.value, dict) for key, node in top.value.items())
    for key, who in sections.items() if apart else ():
        yield from _entries(top.value[key], who) if key in top.value else ()
    if not apart:
        yield from _entries(top, "account")


def _entries(node: Node, who: str) -> Iterable[Row]:
    assert isinstance(node.value, dict)
    return ((label.named, {who: name, "label": label.plain()}) for name, label in node.value.items())


def _text(path: Path) -> str:
    return decoded(contents(path, LARGEST), str(path))


_READERS: Final[Mapping[str, Callable[[Path, Problems], Iterator[Row]]]] = {
    ".csv": _csv, ".jsonl": _lines, ".yaml": _tree, ".yml": _tree, ".json": _tree,
}  # fmt: skip
