"""`sluice test`: run rule tests."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.common import PATHS, apart, fail
from gateway.config import bundled_rules
from gateway.errors import LoadError
from gateway.language.compile import load, pack_files
from gateway.registry import load as load_registry
from gateway.replay.cases import load_cases
from gateway.replay.rule_tests import Results
from gateway.replay.rule_tests import run as run_cases


@click.command()
@click.argument("paths", nargs=-1, type=PATHS)
def test(paths: tuple[Path, ...]) -> None:
    """Run rule tests (*.test.yaml beside the packs). Exit: 0, 1 failures, 2 cannot load."""
    try:
        registry = load_registry({})
        packs, _ = apart(paths or (bundled_rules(),))
        policy = load(packs, registry.signals)
        files = [file for pack in pack_files(packs) if (file := pack.with_name(f"{pack.stem}.test.yaml")).exists()]
        results = run_cases(load_cases(files, policy, registry.signals), policy, registry.signals)
    except LoadError as error:
        fail(error, 2)
    _tell_tests(results)
    sys.exit(0 if results.passed else 1)


def _tell_tests(results: Results) -> None:
    for failure in results.failures:
        click.echo(str(failure))
    for gap in results.uncovered:
        click.echo(f"not covered: {gap}")
    passed = results.ran - len({failure.case.place for failure in results.failures})
    click.echo(f"{results.ran} cases, {passed} passed, {len(results.uncovered)} gaps")
    if not results.ran:
        click.echo("no case was run: write <pack>.test.yaml beside the pack", err=True)
