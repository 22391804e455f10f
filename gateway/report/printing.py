"""A report for people in a terminal, for programs, and as a page."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from gateway.language.policy import Policy
from gateway.report.difference import SIDES
from gateway.report.evaluated import VIEWS
from gateway.report.lacking import ERROR, MISSING, NOT_RECORDED
from gateway.report.page import page

MOST_ROWS: Final = 50
MOST_REASONS: Final = 5
MOST_LACKED: Final = 3
_CAUSES: Final = {ERROR: "error", NOT_RECORDED: "not recorded", MISSING: "missing"}
_WIDE: Final = 10_000
_LABELS: Final = ("accounts", "exchanges", "matched", "acted_on", "would_act_on")
_SAID: Final = {"policy": "the policy", "against": "the other"}


def write(report: Mapping[str, Any], form: str, out: Path | None, policy: Policy | None = None) -> None:
    """Write a report as `table`, `json` or `html` to a file, or to standard output. policy: whose rules a page names.

    Raises OSError.
    """
    if form == "table" and out is None:
        console = Console()
        show(report, console if console.is_terminal else Console(width=_WIDE))
        return
    if form == "table":
        held = io.StringIO()
        show(report, Console(file=held, width=_WIDE))
        text = held.getvalue()
    elif form == "html":
        assert policy is not None, "a page names the rules of a policy"
        text = page(report, policy)
    else:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    written = text.encode("utf-8", "backslashreplace")  # half a surrogate pair in a name: in JSON this is how to write it
    sys.stdout.write(written.decode()) if out is None else out.write_bytes(written)


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables."""
    for line in _head(report):
        console.print(line)
    rules = _table("Rules", _name("rule"), "mode", "match", "accounts", "unknown", "error", "evaluable", "lacked")
    for rule in report["rules"]:
        counts = _numbers(rule, ("match", "accounts", "unknown", "error", "evaluable"))
        rules.add_row(rule["id"], rule["mode"], *counts, _lacked(rule["unevaluable"]))
    console.print(rules)
    if report["labels"]:
        labels = _table("Labels", "label", "accounts", "exchanges", "matched", "acted on", "would act on")
        for name, row in report["labels"].items():
            labels.add_row(escape(name), *_numbers(row, _LABELS))
        console.print(labels)
    for table in _evaluation(report["evaluation"]):
        console.print(table)
    acted = [account for account in report["accounts"] if account["rules"]]
    accounts = _table("Accounts with matches", _name("account"), "label", "exchanges", "strongest", "would", _name("rules"))
    for row in acted[:MOST_ROWS]:
        told = (row["strongest"], row["would"], ", ".join(row["rules"]))
        accounts.add_row(escape(row["id"]), escape(row["label"] or ""), f"{row['exchanges']:,}", *told)
    _print(console, accounts, len(acted))
    if "difference" in report:
        _difference(report["difference"], console)


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    records, period = report["records"], report["period"]
    yield f"policy   {report['policy']['digest'][:19]}… version {report['policy']['version']}"
    yield f"records  {records['read']:,} read, {records['unreadable']:,} unreadable"
    if pooled := records.get("of_further_accounts"):
        yield f"accounts beyond the first {len(report['accounts']) - 1:,} are taken for one: {pooled:,} exchanges"
    yield f"evaluable by every rule: {records['evaluable']:,} of {records['judged']:,}; not by some: {_causes(records)}"
    if records["warm_up"]:
        yield f"warm-up  {records['warm_up']:,} exchanges were judged and counted by measures, and are not reported"
    if period["first"]:
        yield f"period   {period['first']} to {period['last']}"
    yield "outcome  " + _counts(report["outcomes"])
    yield "would    " + _counts(report["would"]) + "   (as if every shadow rule were enforced)"
    if report["refused_at_intake"]:
        yield "refused at intake: " + _counts(report["refused_at_intake"])
    yield from (_asked(kind, asked) for kind, asked in report["asked"].items())
    if report["benign"]["exchanges"]:
        yield _benign(report["benign"])


def _causes(records: Mapping[str, Any]) -> str:
    return ", ".join(f"{_CAUSES[cause]} {count:,}" for cause, count in records["unevaluable"].items()) or "none"


def _lacked(unevaluable: Mapping[str, Any]) -> str:
    """By cause, the signals that were lacked most often."""
    told = []
    for cause, row in unevaluable.items():
        names = sorted(row["signals"], key=lambda name: (-row["signals"][name], name))
        more = f" and {len(names) - MOST_LACKED} more" if len(names) > MOST_LACKED else ""
        told.append(f"{_CAUSES[cause]} ({row['exchanges']:,}): {', '.join(names[:MOST_LACKED])}{more}".removesuffix(": "))
    return "; ".join(told)


def _table(title: str, *columns: Column | str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _print(console: Console, table: Table, rows: int) -> None:
    """Print a table that may show the first of its rows only, unless it is empty."""
    if rows:
        console.print(table)
    if rows > MOST_ROWS:
        console.print(f"… and {rows - MOST_ROWS:,} more; --format json has them all")


def at_least(count: int, capped: bool) -> str:
    """A count for people, of which a cap may say only that it is no less."""
    return f"at least {count:,}" if capped else f"{count:,}"


def _numbers(row: Mapping[str, int], keys: Iterable[str]) -> list[str]:
    return [f"{row[key]:,}" for key in keys]


def _evaluation(evaluation: Mapping[str, Any]) -> Iterator[Table]:
    """Per rule with a match: precision and recall; and per label whom it found."""
    rules = [rule for rule in evaluation["rules"] if any(row["accounts"]["matched"] for row in rule["labels"].values())]
    if not rules:
        return
    said = ", ".join(map(escape, evaluation["harvest"])) or "no label"
    table = _table(
        f"Rules against labels (matched; {said} means harvesting)", _name("rule"), "precision, accounts", "exchanges",
        "recall, accounts", "exchanges", "honest accounts matched", "at most (95 %)", "honest orgs matched", "at most (95 %)",
    )  # fmt: skip
    for rule in rules:
        view = rule["matched"]
        shares = [_percent(view[what][of]) for what in ("precision", "recall") for of in ("accounts", "exchanges")]
        wrong = [cell for of in ("accounts", "orgs") for cell in _wrong(view["wrong"][of])]
        table.add_row(rule["id"], *shares, *wrong)
    yield table
    views = [view.replace("_", " ") for view in VIEWS]
    found = _table(
        "Whom rules find, by label", _name("rule"), "label", *(f"accounts {view}" for view in views),
        *(f"exchanges {view}" for view in views), "half found within", "nine in ten within",
    )  # fmt: skip
    for rule in rules:
        for label, row in rule["labels"].items():
            if row["accounts"]["matched"]:
                waits = [_wait(row["seconds_to_detection"][name]) for name in ("median", "p90")]
                cells = [_of(row[what], view) for what in ("accounts", "exchanges") for view in VIEWS]
                found.add_row(rule["id"], escape(label), *cells, *waits)
    yield found


def _of(row: Mapping[str, int], view: str) -> str:
    return f"{row[view]:,} of {row['all']:,}"


def _wrong(wrong: Mapping[str, Any]) -> tuple[str, str]:
    bound = "not computed" if wrong["of"] else ""
    return f"{wrong['found']:,} of {wrong['of']:,}", bound if wrong["upper_95"] is None else _percent(wrong["upper_95"])


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.4%}" if 0 < share < 0.001 else f"{share:.1%}"


def _wait(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    units = (("d", 86_400), ("h", 3_600), ("min", 60))
    return next((f"{seconds / size:.1f} {unit}" for unit, size in units if seconds >= size), f"{seconds:.0f} s")


def _difference(difference: Mapping[str, Any], console: Console) -> None:
    """Where two policies differ, and why."""
    exchanges, digest = difference["exchanges"], difference["against"]["digest"][:19]
    console.print(f"against  {digest}… version {difference['against']['version']}: ", end="")
    if not any(difference[key] for key in ("rules", "limits", "accounts")):
        console.print("no difference")
        return
    console.print(f"more is done on {exchanges['policy']:,} exchanges, less on {exchanges['against']:,}")
    table = _table("Difference by rule", _name("rule or limit"), "more by", "exchanges", "accounts", _name("why"))
    for row in [*difference["rules"], *difference["limits"]]:
        why = "\n".join(_reasons(row))
        for side in SIDES:
            if row[side]["exchanges"]:
                counts = f"{row[side]['exchanges']:,}", at_least(row[side]["accounts"], "at_least" in row[side])
                table.add_row(row["id"], _SAID[side], *counts, why)
    console.print(table)
    rows = difference["accounts"]
    accounts = _table("Difference by account", _name("account"), "label", "policy", "other", "refused by one only")
    for row in rows[:MOST_ROWS]:
        told = [f"{row[side]['strongest']} (would {row[side]['would']})" for side in SIDES]
        only = [f"{_SAID[side]} ({view})" for view, side in row["only"].items() if side]
        accounts.add_row(escape(row["id"]), escape(row["label"] or ""), *told, ", ".join(only))
    _print(console, accounts, len(rows))
    if further := difference.get("of_further_accounts"):
        console.print(f"accounts beyond the first {len(rows):,} are not told apart: {sum(further.values()):,} more exchanges")


def _reasons(row: Mapping[str, Any]) -> Iterator[str]:
    """The reasons of a rule that tell most, and that there are more."""
    reasons = row.get("why", ())
    yield from (f"{escape(_why(one))} ({one['exchanges']:,})" for one in reasons[:MOST_REASONS])
    if rest := sum(one["exchanges"] for one in reasons[MOST_REASONS:]) + row.get("of_further_reasons", 0):
        yield f"others ({rest:,})"


def _why(one: Mapping[str, Any]) -> str:
    return f"{one['what']}: {one['policy']} / {one['against']}"


def _name(header: str) -> Column:
    """A column of names, which are folded where it is narrow and never cut."""
    return Column(header, overflow="fold")


def _benign(benign: Mapping[str, Any]) -> str:
    said = f"benign   {benign['exchanges']:,} exchanges, {benign['would_refuse']:,} would be refused ({benign['share']:.4%})"
    return f"{said}: {benign['counts']} ({benign['refused_at_intake']:,})"


def _asked(kind: str, asked: Mapping[str, Any]) -> str:
    accounts = f"{asked['exchanges']:,} exchanges of {asked['accounts']:,} accounts"
    return f"asked    to declare a {kind}: {accounts}; {asked['would']:,} as if every shadow rule were enforced"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing"
