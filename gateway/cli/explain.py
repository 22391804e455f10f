"""`sluice explain`: one decision, leaf by leaf."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gateway.cli.common import CONFIG, PATHS, configured, fail
from gateway.errors import RecordError, ReplayError, SluiceError
from gateway.language.compile import load
from gateway.replay.driver import DRY_RUN_KEY
from gateway.replay.explain import explain as explain_record
from gateway.replay.explain import tell
from gateway.replay.sources import Reader, line_at, line_of
from gateway.web.intake import Intake


@click.command()
@click.argument("reference", required=False)
@click.option("--record", "where", help="FILE:LINE of an audit record.")
@click.option("--records", type=PATHS, help="Where to look the reference up: the config's records, or audit.jsonl.")
@click.option("--policy", "policies", multiple=True, type=PATHS, help="Packs or folders; the bundled rules if left out.")
@CONFIG
@click.option("--rule", "only", help="Explain this rule, even if it did not match.")
def explain(
    reference: str | None,
    where: str | None,
    records: Path | None,
    policies: tuple[Path, ...],
    config: Path | None,
    only: str | None,
) -> None:
    """Explain one decision, leaf by leaf. Exit: 0, 1 not found, 2 bad rules, or a replay that differs."""
    if (reference is None) == (where is None):
        raise click.UsageError("name either a reference or --record FILE:LINE")
    try:
        registry, settings = configured(config)
        policy = load(policies or settings.policy, registry.signals)
    except SluiceError as error:
        fail(error, 2)
    if only is not None and policy.rule(only) is None:
        fail(f"no rule '{only}' in this policy", 2)
    try:
        kept = records or settings.records or Path("audit.jsonl")
        place, text = line_at(where) if where else line_of(reference or "", kept)
        exchange = Reader(Intake(registry, DRY_RUN_KEY), registry.signals).exchange(text, place)
        entry = json.loads(text)
        if "signals" not in entry:
            raise RecordError(place, "is a capture; 'sluice dry-run --decisions' makes audit records of captures")
        told = list(tell(explain_record(exchange, entry, policy, registry.signals), only))
    except (OSError, RecordError, LookupError) as error:
        fail(error, 1)
    except (ValueError, TypeError, AttributeError) as error:
        fail(f"{place}: is not a whole audit record: {error}", 1)
    except ReplayError as error:
        fail(error, 2)
    for text_line in told:
        click.echo(text_line)
