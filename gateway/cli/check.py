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
from gateway.config import bundled_rules, load_config
from gateway.errors import LoadError, Place
from gateway.language.compile import load, pack_files
from gateway.language.difference import Change, Difference, PackStep, difference
from gateway.language.emit import source
from gateway.language.findings import Finding, Severity
from gateway.language.lint import JUDGEMENTS, lint
from gateway.language.policy import Policy
from gateway.language.sarif import Looked, sarif
from gateway.registry import load as load_registry
from gateway.replay import coverage
from gateway.signals import Catalogue
from gateway.web.door import known_protocols

_UNLOADABLE: Final = {"unloadable": Looked("A file that cannot be loaded, and where.", Severity.ERROR)}
_JUDGED: Final = {
    **{judgement.name: Looked(judgement.meaning, judgement.severity) for judgement in JUDGEMENTS},
    **{name: Looked(getdoc(judge) or name) for name, judge in coverage.JUDGEMENTS.items()},
    **_UNLOADABLE,
}
_COMPARED: Final = {
    "unraised-version": Looked("A pack that behaves in another way than before without a higher version.", Severity.ERROR),
    **_UNLOADABLE,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy as it was found: its signals, the test files beside its packs, and the gateway.yaml that names it, if any."""

    policy: Policy
    catalogue: Catalogue
    tests: tuple[Path, ...]
    config: Path | None = None

    def findings(self, today: int) -> list[Finding]:
        """What is wrong with it on this day (µs), by its text and by its tests."""
        found = lint(self.policy, today=today, catalogue=self.catalogue)
        return found + coverage.judge(self.policy, self.catalogue, self.tests)


@click.command()
@click.argument("paths", nargs=-1, type=PATHS)
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text")
@click.option("--against", type=PATHS, multiple=True, help="The older policy: what changed, and the version steps it asks for.")
@click.option("--compiled", is_flag=True, help="Print the program that the policy compiles to.")
def check(paths: tuple[Path, ...], form: str, against: tuple[Path, ...], compiled: bool) -> None:
    """Load and judge packs, workloads and gateway.yaml files. Exit: 0 clean or notes only, 1 findings, 2 cannot load."""
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
        _echo(sarif(findings, _COMPARED if told else _JUDGED, __version__))
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
    found = [Loaded(load(packs, catalogue), catalogue, _tests(packs))] if packs or not configs else []
    for config in configs:
        settings = load_config(config)
        registry = load_registry(settings.settings)
        known_protocols(settings, registry)
        policy = load(settings.policy, registry.signals)
        found.append(Loaded(policy, registry.signals, _tests(settings.policy), config))
    return found


def _tests(packs: Iterable[Path]) -> tuple[Path, ...]:
    """The rule tests beside these packs."""
    return tuple(file for pack in pack_files(packs) if (file := pack.with_name(f"{pack.stem}.test.yaml")).exists())


def _tell(found: Sequence[Loaded], findings: Sequence[Finding]) -> None:
    for finding in findings:
        click.echo(_line(finding))
    for loaded in found:
        policy = loaded.policy
        said = f"{len(policy.rules)} rules and {len(policy.limits)} limits in {len(policy.packs)} packs"
        where = f"{loaded.config}: " if loaded.config else ""
        click.echo(f"{where}{said}, {len(findings)} findings, {policy.digest[:19]}… version {policy.version}")


def _line(finding: Finding) -> str:
    mend = f"; {finding.mend}" if finding.mend else ""
    return f"{finding.place}: {finding.severity}: {finding.message}{mend} [{finding.judgement}]"


def _tell_difference(changed: Difference, findings: Sequence[Finding]) -> None:
    equal = [change for change in changed.changes if not change.step]
    for change in changed.changes:
        if change.step:
            why = f": {'; '.join(change.reasons)}" if change.reasons else ""
            click.echo(f"{change.what} {change.id}: {_kind(change)} ({change.step}){why}")
    for pack in changed.packs:
        click.echo(f"pack {pack.pack}: version {pack.old or 'none'} -> {pack.new or 'none'}, its changes call for: {pack.step}")
    for finding in findings:
        click.echo(_line(finding))
    click.echo(f"{len(changed.changes) - len(equal)} changed, {len(equal)} equal, {len(findings)} findings")


def _kind(change: Change) -> str:
    """The kind of a change, and which way it goes where the kind does not say so."""
    return f"{change.kind}, {change.direction}" if change.kind == "moved" and change.direction != "equal" else str(change.kind)


def _tell_unloadable(error: LoadError, form: str) -> None:
    findings = [Finding(one.place, one.message, one.mend, "unloadable", Severity.ERROR) for one in error.problems]
    if form == "sarif":
        _echo(sarif(findings, _UNLOADABLE, __version__, loaded=False))
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
