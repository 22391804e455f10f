"""`sluice signals`: the signal catalogue."""

from __future__ import annotations

import json

import click

from gateway.registry import load as load_registry


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def signals(form: str) -> None:
    """Print the signal catalogue."""
    catalogue = load_registry({}).signals
    if form == "json":
        keys = ("meaning", "missing", "confounder", "source")
        rows = [
            {"name": s.name, "type": str(s.type), "cost": str(s.cost), "settled": s.settled, **{k: getattr(s, k) for k in keys}}
            for s in sorted(catalogue.values(), key=lambda signal: signal.name)
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for signal in sorted(catalogue.values(), key=lambda signal: signal.name):
        click.echo(f"{signal.name}  ({signal.type}, {signal.cost}{', after the answer' if signal.settled else ''})")
        click.echo(f"    {signal.meaning}")
        click.echo(f"    missing: {signal.missing}. mistaken for: {signal.confounder}")
