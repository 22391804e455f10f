"""`sluice asked`: who was asked to declare a workload, and entries of `workloads.yaml` to be finished by a person."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gateway.cli.common import CONFIG, PATHS, Complaints, configured, fail, tell_unopened
from gateway.errors import RecordError, SluiceError
from gateway.language.compile import load
from gateway.replay.asked import asking
from gateway.replay.asked_printing import as_dict, declarations, show


@click.command()
@click.argument("records", nargs=-1, required=True)
@click.option("--policy", "policies", multiple=True, type=PATHS, help="Packs and workloads: what is declared meanwhile.")
@CONFIG
@click.option("--format", "form", type=click.Choice(["text", "json", "yaml"]), default="text")
def asked(records: tuple[str, ...], policies: tuple[Path, ...], config: Path | None, form: str) -> None:
    """Tell who was asked to declare a workload, by RECORDS: audit records (- is standard input), not captures.

    With --policy each record is judged by it again, to tell what is declared meanwhile. --format yaml makes entries of a
    workloads.yaml for the others. Exit: 0, 1 nobody was asked, 2 bad rules, 3 bad or empty records.
    """
    try:
        registry, settings = configured(config)
        opened = settings.audit.opens()
        policy = load(policies, registry.signals) if policies else None
    except SluiceError as error:
        fail(error, 2)
    complaints = Complaints()
    try:
        found = asking(records, registry.signals, policy, complaints, opened)
        complaints.rest()
        tell_unopened(opened)
    except RecordError as error:
        fail(error, 3)
    if not found.read:
        fail("no audit record could be read", 3)
    if form == "json":
        click.echo(json.dumps(as_dict(found, policy is not None), indent=2, ensure_ascii=False))
    elif not found.rows:
        click.echo(f"{found.read:,} records read: nobody was asked to declare anything", err=True)
    elif form == "yaml":
        for line in declarations(found):
            click.echo(line)
    else:
        show(found, policy is not None)
    raise SystemExit(0 if found.rows else 1)
