"""`sluice check`: load and judge packs, workloads and gateway.yaml files, or tell what changed against an older policy."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any, Final

import click

from gateway import __version__
from gateway.cli.common import PATHS, apart, fail
from gateway.cli.geo_findings import LOOKED, geo_findings
from gateway.cli.numbers import several
from gateway.config import Config, bundled_rules, load_config
from gateway.errors import LoadError, Place
from gateway.language.compile import load
from gateway.language.difference import Change, Difference, PackStep, difference
from gateway.language.emit import source
from gateway.language.findings import Finding, Severity
from gateway.language.lint import JUDGEMENTS, lint
from gateway.language.policy import Policy
from gateway.language.sarif import Looked, sarif
from gateway.registry import load as load_registry
from gateway.replay import coverage
from gateway.replay.beside import tests_beside
from gateway.signals import Catalogue
from gateway.web.door import known_protocols

UNLOADABLE: Final = {"unloadable": Looked("A file that cannot be loaded, and where.", Severity.ERROR)}
JUDGED: Final = {
    **{judgement.name: Looked(judgement.meaning, judgement.severity) for judgement in JUDGEMENTS},
    **{name: Looked(getdoc(judge) or name) for name, judge in coverage.JUDGEMENTS.items()},
    **LOOKED,
    **UNLOADABLE,
}
COMPARED: Final = {
    "unraised-version": Looked("A pack that behaves in another way than before without a higher version.", Severity.ERROR),
    **UNLOADABLE,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy as it was found: its signals, the test files beside its packs, and the gateway.yaml that names it, if any."""

    policy: Policy
    catalogue: Catalogue
    tests: tuple[Path, ...]
    config: Path | None = None
    settings: Config | None = None

    def findings(self, today: int) -> list[Finding]:
        """What is wrong with it on this day (µs), by its text, by its tests and by the geo files that it is given."""
        found = lint(self.policy, today=today, catalogue=self.catalogue)
        geo = geo_findings(self.settings, today) if self.settings is not None else []
        return found + coverage.judge(self.policy, self.catalogue, self.tests) + geo


@click.command()
@click.argument("paths", nargs=-1, type=PATHS)
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text")
@click.option("--against", type=PATHS, multiple=True, help="The older policy: what changed, and the version steps it asks for.")
@click.option("--compiled", is_flag=True, help="Print the program that the policy compiles to, and nothing else.")
def check(paths: tuple[Path, ...], form: str, against: tuple[Path, ...], compiled: bool) -> None:
    """Load and judge packs, workloads and gateway.yaml files. Exit: 0 clean or notes only, 1 findings, 2 cannot load."""
    if compiled and (against or form != "text"):
        raise click.UsageError("--compiled prints a program: it goes neither with --against nor with --format")
    try:
        found = _load(paths or (bundled_rules(),))
        old = _load(against)[0].policy if against else None
        if compiled:
            click.echo(source(found[0].policy, found[0].catalogue))
            return
        if old is not None:
            changed = difference(old, found[0].policy)
            findings = list(changed.findings)
        else:
            changed, now = None, time.time_ns() // 1_000
            findings = sorted({finding for loaded in found for finding in loaded.findings(now)})
    except LoadError as error:
        if form == "text":
            fail(error, 2)
        _tell_unloadable(error, form)
        sys.exit(2)
    told = _difference(changed, old) if changed is not None and old is not None else {}
    if form == "sarif":
        _echo(sarif(findings, COMPARED if told else JUDGED, __version__))
    elif form == "json":
        _echo({**_heading(found[0].policy), **told, "findings": _plain(findings)})
    elif changed is not None:
        _tell_difference(changed, findings)
    else:
        _tell(found, findings)
    sys.exit(1 if any(finding.severity is not Severity.NOTE for finding in findings) else 0)


def _load(paths: Sequence[Path]) -> list[Loaded]:
    """The policy of the packs among the paths, if there are any, and then that of each gateway.yaml."""
    packs, configs = apart(paths)
    catalogue = load_registry({}).signals
    found = [Loaded(load(packs, catalogue), catalogue, tests_beside(packs, paths))] if packs or not configs else []
    for config in configs:
        settings = load_config(config)
        registry = load_registry(settings.settings)
        known_protocols(settings, registry)
        policy = load(settings.policy, registry.signals)
        found.append(Loaded(policy, registry.signals, tests_beside(settings.policy), config, settings))
    return found


def _tell(found: Sequence[Loaded], findings: Sequence[Finding]) -> None:
    for finding in findings:
        click.echo(finding.line)
    for loaded in found:
        policy = loaded.policy
        rules, limits = several(len(policy.rules), "rule"), several(len(policy.limits), "limit")
        said = f"{rules} and {limits} in {several(len(policy.packs), 'pack')}"
        where = f"{loaded.config}: " if loaded.config else ""
        click.echo(f"{where}{said}, {several(len(findings), 'finding')}, {policy.digest[:19]}… version {policy.version}")


def _tell_difference(changed: Difference, findings: Sequence[Finding]) -> None:
    equal = [change for change in changed.changes if not change.step]
    for change in changed.changes:
        if change.step:
            why = f": {'; '.join(change.reasons)}" if change.reasons else ""
            click.echo(f"{change.what} {change.id}: {_kind(change)} ({change.step}){why}")
    for pack in changed.packs:
        click.echo(f"pack {pack.pack}: version {pack.old or 'none'} -> {pack.new or 'none'}, its changes call for: {pack.step}")
    for finding in findings:
        click.echo(finding.line)
    click.echo(f"{len(changed.changes) - len(equal)} changed, {len(equal)} equal, {several(len(findings), 'finding')}")


def _kind(change: Change) -> str:
    """The kind of a change, and which way it goes where the kind does not say so."""
    return f"{change.kind}, {change.direction}" if change.kind == "moved" and change.direction != "equal" else str(change.kind)


def _tell_unloadable(error: LoadError, form: str) -> None:
    findings = [Finding(one.place, one.message, one.mend, "unloadable", Severity.ERROR) for one in error.problems]
    if form == "sarif":
        _echo(sarif(findings, UNLOADABLE, __version__, loaded=False))
    else:
        _echo({"loaded": False, "digest": None, "version": None, "findings": _plain(findings)})


def _heading(policy: Policy) -> dict[str, Any]:
    return {"loaded": True, "digest": policy.digest, "version": policy.version}


def _plain(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [
        {"judgement": one.judgement, "severity": str(one.severity), **_at(one.place), "message": one.message, "mend": one.mend}
        for one in findings
    ]


def _at(place: Place) -> dict[str, Any]:
    return {"path": place.path, "line": place.line, "column": place.column}


def _difference(changed: Difference, old: Policy) -> dict[str, Any]:
    return {
        "against": {"digest": old.digest, "version": old.version},
        "changes": [_change(change) for change in changed.changes],
        "packs": [_pack(pack) for pack in changed.packs],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "what": change.what, "id": change.id, "packs": list(change.packs), "change": str(change.kind),
        "direction": str(change.direction), "step": str(change.step), "reasons": list(change.reasons), **_at(change.place),
    }  # fmt: skip


def _pack(pack: PackStep) -> dict[str, Any]:
    return {"pack": pack.pack, "step": str(pack.step), "old": pack.old, "new": pack.new, "owed": pack.owed}


def _echo(found: object) -> None:
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
