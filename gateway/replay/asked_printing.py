"""What was found of who was asked to declare: a table for people, JSON for programs, and entries of a `workloads.yaml`.

The entries are to be finished by a person: who answers for a declaration and why it is believed is left empty, and does not
load until it is written. Texts of callers stand in quotes and escaped, so that none of them can be read as anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from gateway.language.campaigns import CHECKED
from gateway.replay.asked import DAY, KEPT, Asking, Row
from gateway.values import timestamp_text

NOBODY: Final = "(no account)"
SHOWN: Final = 3
LASTS: Final = 90
_WIDE: Final = 10_000
_NO_SLUG: Final = re.compile(r"[^a-z0-9]+")
_LONGEST_NAME: Final = 60


def as_dict(found: Asking, judged: bool) -> dict[str, Any]:
    """Everything as one JSON-ready object. judged: whether a policy told what is declared meanwhile.

    exchanges of a row: those in which it was asked. peak_per_day: all of its account's on the busiest day, asked or not.
    """
    period = {"first": _time(found.first), "last": _time(found.last)}
    records = {"read": found.read, "unreadable": found.unreadable}
    rows = [_plain(row, judged) for row in found.ranked()]
    left = {"left_off": found.left_off, "forgotten": found.forgotten}
    return {"records": records, "period": period, "asked": rows, **left}


def _plain(row: Row, judged: bool) -> dict[str, Any]:
    tree = {
        "account": row.account or None, "org": row.org or None, "kind": row.kind, "exchanges": row.exchanges,
        "rules": dict(sorted(row.rules.items())), "first": _time(row.first), "last": _time(row.last),
        "peak_per_day": row.daily.peak, "models": row.models.top(KEPT), "templates": row.templates.top(SHOWN),
    }  # fmt: skip
    return tree | ({"declared": row.declared} if judged else {})


def show(found: Asking, judged: bool) -> None:
    """The table, on standard output."""
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDE)
    console.print(f"records  {found.read:,} read, {found.unreadable:,} unreadable")
    if found.first is not None:
        console.print(f"period   {_time(found.first)} to {_time(found.last)}")
    names = ("account", "org", "kind", "asked", "busiest day", "first", "last", "rules", "models", "templates")
    table = Table(*(Column(name, overflow="fold") for name in (*names, *(["declared"] if judged else []))), title="Asked",
                  title_justify="left")  # fmt: skip
    for row in found.ranked():
        cells = [
            row.account or NOBODY, row.org, row.kind, f"{row.exchanges:,}", f"{row.daily.peak:,}", str(_time(row.first)),
            str(_time(row.last)), ", ".join(sorted(row.rules)), _few(row.models.top(KEPT)), _few(row.templates.top(KEPT)),
        ]  # fmt: skip
        table.add_row(*map(escape, map(_visible, [*cells, *([row.declared] if judged else [])])))
    console.print(table)
    console.print(
        "asked: exchanges in which it was asked; busiest day: all exchanges of the account, asked or not, on one day (UTC)"
    )
    if found.forgotten:
        console.print(
            f"so many accounts that {found.forgotten:,} times a busiest day was let go of: «busiest day» may be too low"
        )
    if found.left_off:
        console.print(f"{found.left_off:,} asked exchanges of further accounts are left out")


def declarations(found: Asking) -> Iterator[str]:
    """The lines of a `workloads.yaml` with an entry for each organisation and kind; those that are declared are only named."""
    yield "# Made by `sluice asked`: finish each entry, or delete it. Who answers for it, and why it is believed, is for a"
    yield "# person to write: until then `sluice check` refuses this file."
    yield "workloads:"
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found.ranked():
        if row.settled:
            yield f"  # {_quoted(row.account)}, asked for a {row.kind}, is {row.declared}"
        elif row.account or row.org:
            groups.setdefault((row.kind, row.org or row.account), []).append(row)
    taken: set[str] = set()
    for (kind, whose), rows in sorted(groups.items()):
        yield from _entry(kind, whose, rows, found, taken)


def _entry(kind: str, whose: str, rows: list[Row], found: Asking, taken: set[str]) -> Iterator[str]:
    of_org = bool(rows[0].org)
    counted = found.daily.get(("o" if of_org else "a", whose))
    peak = max([counted.peak if counted is not None else 0, *(row.daily.peak for row in rows)])
    first, last = min(row.first for row in rows), max(row.last for row in rows)
    models = sorted({model for row in rows for model in row.models.counts})
    rules = sorted({rule for row in rows for rule in row.rules})
    accounts = ", ".join(_quoted(row.account or NOBODY) for row in rows[:SHOWN]) + (", …" if len(rows) > SHOWN else "")
    times = sum(row.exchanges for row in rows)
    yield f"  # asked {times:,} times by {', '.join(rules)}; accounts {accounts}; {peak:,} exchanges in all on the busiest day"
    yield f"  - id: {_id(kind, whose, taken)}"
    yield f"    kind: {kind}"
    yield f"    {'orgs' if of_org else 'accounts'}: [{_quoted(whose)}]"
    if models and not any(row.models.several for row in rows):
        yield f"    models: [{', '.join(map(_quoted, models))}]"
    yield f"    ceiling: {rounded_up(peak)} requests/day"
    if kind in CHECKED:
        yield "    # items: 500              # how many different items it has: it then checks itself"
    yield f"    from: {timestamp_text(first)[:10]}"
    yield f"    until: {timestamp_text(last + LASTS * DAY)[:10]}"
    yield '    owner: ""                 # who answers for it'
    yield '    evidence: ""              # why it is believed, such as a ticket or a contract'


def rounded_up(number: int) -> int:
    """The next number of two digits and zeros.

    >>> rounded_up(1), rounded_up(1_201), rounded_up(99_999)
    (10, 1300, 100000)
    """
    unit = int("1" + "0" * max(1, len(str(number)) - 2))
    return max(1, -(-number // unit)) * unit


def _id(kind: str, whose: str, taken: set[str]) -> str:
    name = _NO_SLUG.sub("-", whose.lower())[:_LONGEST_NAME].strip("-")
    base = f"{kind}-{name}" if name else kind
    found = next(one for one in (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3))) if one not in taken)
    taken.add(found)
    return found


def _quoted(text: str) -> str:
    return json.dumps(text)


def _visible(text: str) -> str:
    """A caller's text for a terminal: what is not printable is escaped."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _few(values: Iterable[str]) -> str:
    listed = list(values)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _time(at: int | None) -> str | None:
    return timestamp_text(at)[:19] + "Z" if at is not None else None
