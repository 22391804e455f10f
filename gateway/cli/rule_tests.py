"""`sluice test`: run rule tests, and the mutants that they should kill."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import PATHS, apart, fail
from gateway.cli.numbers import several
from gateway.config import bundled_rules
from gateway.errors import LoadError, Place, PolicyError, ReplayError, did_you_mean
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.registry import load as load_registry
from gateway.replay.beside import no_packs, tests_beside
from gateway.replay.cases import Case, Tests, exchanges, load_tests
from gateway.replay.layout import lines
from gateway.replay.mutation import Sweep, sweep
from gateway.replay.played import play, prepared
from gateway.replay.reasons import explained
from gateway.replay.rule_tests import Results
from gateway.replay.rule_tests import run as run_cases
from gateway.replay.telling import told
from gateway.signals import Catalogue


@click.command()
@click.argument("paths", nargs=-1, type=PATHS)
@click.option("--mutate", is_flag=True, help="Also change every rule in every small way, and name the changes no case notices.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), metavar="N", help="Processes that run mutants (default: one for each core)."
)
@click.option("--explain", "name", metavar="CASE", help="Explain the last exchange of the case of this name instead.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def test(paths: tuple[Path, ...], mutate: bool, jobs: int | None, name: str | None, form: str) -> None:
    """Run rule tests (*.test.yaml beside the packs). Exit: 0, 1 failures or surviving mutants, 2 cannot load."""
    if mutate and name is not None:
        raise click.UsageError("--explain tells of one case and makes no mutants; leave out --mutate")
    signals = load_registry({}).signals
    try:
        policy, tests = _loaded(paths or (bundled_rules(),), signals)
    except LoadError as error:
        if form == "json":
            click.echo(json.dumps({"loaded": False, "problems": [str(problem) for problem in error.problems]}, indent=2))
            sys.exit(2)
        fail(error, 2)
    if name is not None:
        _explain(name, tests.cases, policy, signals, form)
        return
    results = run_cases(tests.cases, policy, signals)
    swept = _swept(tests, results, policy, signals, jobs) if mutate and results.ran and not results.failures else None
    if form == "json":
        click.echo(json.dumps(_plain(results, swept), indent=2, ensure_ascii=False))
    else:
        _tell_tests(results)
        if swept is not None:
            _tell_mutants(swept)
    if mutate and results.failures:
        click.echo("no mutant was made: they need cases that pass", err=True)
    sys.exit(0 if results.passed and (not mutate or (swept is not None and swept.clean)) else 1)


def _loaded(paths: Sequence[Path], signals: Catalogue) -> tuple[Policy, Tests]:
    packs, configs = apart(paths)
    if problems := no_packs(paths, configs):
        raise PolicyError(problems)
    policy = load(packs, signals)
    return policy, load_tests(tests_beside(packs, paths), policy, signals)


def _explain(name: str, cases: Sequence[Case], policy: Policy, signals: Catalogue, form: str) -> None:
    """Tell the last exchange of the cases of this name: the rules that they name, or all that ended where they name none."""
    named = [case for case in cases if case.name == name]
    if not named:
        fail(f"no case '{name}'; {did_you_mean(name, [case.name for case in cases])}".rstrip("; "), 2)
    for case in named:
        try:
            explanation = explained(play(list(exchanges(case, signals)), prepared(policy, case), signals))
        except ReplayError as error:
            fail(error, 2)
        rules = [rule.id for rule in policy.rules if rule.id in case.expected.names]
        tree = {"case": case.name, **_at(case.place), **told(explanation, rules)}
        if form == "json":
            click.echo(json.dumps(tree, indent=2, ensure_ascii=False))
            continue
        click.echo(f"{case.place}: {case.name}: its last exchange, of {several(case.size, 'exchange')}\n")
        for line in lines(tree):
            click.echo(line)


def _swept(tests: Tests, results: Results, policy: Policy, signals: Catalogue, jobs: int | None) -> Sweep:
    """The sweep, with a bar on standard error while it runs."""
    with click.progressbar(length=1, label="mutants", file=sys.stderr, show_pos=True) as bar:

        def tick(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        try:
            return sweep(tests, results, policy, signals, tick, jobs or multiprocessing.cpu_count())
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error


def _tell_tests(results: Results) -> None:
    for failure in results.failures:
        click.echo(str(failure))
    for gap in results.uncovered:
        click.echo(f"not covered: {gap}")
    passed = results.ran - len({failure.case.place for failure in results.failures})
    click.echo(f"{several(results.ran, 'case')}, {passed} passed, {several(len(results.uncovered), 'gap')}")
    if not results.ran:
        click.echo("no case was run: write <pack>.test.yaml beside the pack", err=True)


def _tell_mutants(swept: Sweep) -> None:
    for mutant in swept.survivors:
        click.echo(f"{mutant.place}: survives: {mutant.id}; add {mutant.hint}")
    for accepted in swept.stale:
        click.echo(f"{accepted.place}: does not survive, or is no mutant: {accepted.mutant}; remove it from 'accepted'")
    survive = "survives" if len(swept.survivors) == 1 else "survive"
    said = f"{swept.killed} killed, {len(swept.accepted)} accepted, {len(swept.survivors)} {survive}"
    click.echo(f"{several(swept.mutants, 'mutant')}: {said}" + (f", {len(swept.stale)} stale" if swept.stale else ""))


def _plain(results: Results, swept: Sweep | None) -> dict[str, Any]:
    failures = [
        {**_at(found.place), "case": found.case.name, "message": found.message, "why": list(found.why)}
        for found in results.failures
    ]
    told: dict[str, Any] = {"loaded": True, "cases": results.ran, "failures": failures, "gaps": list(results.uncovered)}
    if swept is not None:
        told["mutants"] = {
            "made": swept.mutants, "killed": swept.killed,
            "survivors": [{**_at(one.place), "mutant": one.id, "hint": one.hint} for one in swept.survivors],
            "accepted": [{**_at(why.place), "mutant": one.id, "reason": why.reason} for one, why in swept.accepted],
            "stale": [{**_at(one.place), "mutant": one.mutant, "reason": one.reason} for one in swept.stale],
        }  # fmt: skip
    return told


def _at(place: Place) -> dict[str, Any]:
    return {"path": place.path, "line": place.line, "column": place.column}
