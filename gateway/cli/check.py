"""`sluice check`: load and judge packs and gateway.yaml files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from gateway.cli.common import PATHS, apart, fail
from gateway.config import bundled_rules, load_config
from gateway.errors import LoadError
from gateway.language.compile import load
from gateway.language.lint import lint
from gateway.registry import load as load_registry
from gateway.web.door import known_protocols


@click.command()
@click.argument("paths", nargs=-1, type=PATHS)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def check(paths: tuple[Path, ...], form: str) -> None:
    """Load and judge packs and gateway.yaml files. Exit: 0 clean, 1 findings, 2 cannot load."""
    try:
        packs, configs = apart(paths or (bundled_rules(),))
        registry = load_registry({})
        policy = load(packs, registry.signals) if packs else None
        for config in configs:
            settings = load_config(config)
            known_protocols(settings, load_registry(settings.settings))
            found = load(settings.policy, registry.signals)
            if form == "text":
                click.echo(f"{config}: policy {found.digest[:19]}… version {found.version}, {len(found.rules)} rules")
    except LoadError as error:
        if form == "json":
            click.echo(json.dumps({"loaded": False, "problems": [str(problem) for problem in error.problems]}, indent=2))
            sys.exit(2)
        fail(error, 2)
    findings = lint(policy) if policy else []
    if form == "json":
        digest = policy.digest if policy else None
        click.echo(json.dumps({"loaded": True, "digest": digest, "findings": [str(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(str(finding))
        if policy:
            said = f"{len(policy.rules)} rules and {len(policy.limits)} limits in {len(policy.packs)} packs"
            click.echo(f"{said}, {len(findings)} findings, {policy.digest[:19]}… version {policy.version}")
    sys.exit(1 if findings else 0)
