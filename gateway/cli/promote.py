"""`sluice promote`: may this rule be enforced? Its gate, held against labelled traffic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from gateway.cli.common import CONFIG, FIELDS, HARVEST, LABELS, PATHS, WARM_UP, configured, fail
from gateway.cli.engines import ENGINE, Engine, Job
from gateway.decision import Mode
from gateway.errors import ExtraError, LoadError, NotInColumnsError, RecordError, SluiceError, did_you_mean
from gateway.language.compile import load
from gateway.language.policy import Policy, Promotion, Rule
from gateway.language.rewriting import set_mode
from gateway.replay.foreign.fields import Fields
from gateway.report.bounds import upper_95
from gateway.report.labels import Labels, read_labels
from gateway.report.promotion import Standing, standing


@click.command()
@click.argument("rule_id", metavar="RULE")
@click.argument("records", nargs=-1, required=True)
@click.option("--policy", "policies", multiple=True, type=PATHS, required=True, help="Packs or folders; one holds RULE.")
@CONFIG
@LABELS
@HARVEST
@WARM_UP
@ENGINE
@FIELDS
@click.option("--write", "writing", is_flag=True, help="Where the gate is met, change the rule's mode in its pack.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def promote(
    rule_id: str,
    records: tuple[str, ...],
    policies: tuple[Path, ...],
    config: Path | None,
    labels: Path | None,
    harvest: tuple[str, ...],
    warm_up: int,
    engine: str,
    fields: Fields,
    writing: bool,
    form: str,
) -> None:
    """Tell whether RULE may be enforced: whether RECORDS, with labels, meet the `gate` that its pack declares.

    Honest are accounts with a label that does not mean harvesting. Exit: 0 met, 1 not met, 2 bad rules, or a rule without a
    gate, 3 bad or empty records.
    """
    try:
        upper_95(0, 1)
        registry, settings = configured(config)
        policy = load(policies, registry.signals)
    except SluiceError as error:
        fail(error, 2)
    rule, gate = _gated(policy, rule_id)
    lifted = [replace(one, mode=Mode.SHADOW) if one.id == rule_id and one.mode is Mode.OFF else one for one in policy.rules]
    try:
        named = read_labels(labels, harvest) if labels else Labels(harvest=harvest)
        tried = replace(policy, rules=tuple(lifted))
        counts, read, _ = Job(records, tried, registry, settings, named, warm_up, fields=fields).run(Engine(engine))
    except OSError as error:
        fail(f"{error.filename}: cannot be read: {error.strerror}", 3)
    except (LoadError, RecordError) as error:
        fail(error, 3)
    except (ExtraError, NotInColumnsError) as error:
        fail(f"--engine columns cannot be used: {error}", 2)
    if not read:
        fail("no record could be read", 3)
    found = standing(rule, gate, counts.report)
    _tell(rule, found, form)
    if not found.met:
        raise SystemExit(1)
    _enforce(rule, policy, writing)


def _gated(policy: Policy, rule_id: str) -> tuple[Rule, Promotion]:
    """The rule and its gate, or the end of the command."""
    rule = policy.rule(rule_id)
    if rule is None:
        fail("; ".join(filter(None, [f"no rule '{rule_id}'", did_you_mean(rule_id, [rule.id for rule in policy.rules])])), 2)
    if rule.gate is None:
        mend = "declare one, such as gate: {max_upper_95: 0.0001, min_benign_accounts: 30000, min_days: 14}"
        fail(f"{rule.place}: {rule.id} has no gate, so nothing says what must be shown before it is enforced; {mend}", 2)
    return rule, rule.gate


def _tell(rule: Rule, found: Standing, form: str) -> None:
    if form == "json":
        click.echo(json.dumps({"rule": rule.id, "mode": str(rule.mode), **found.as_dict()}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{rule.id} ({rule.mode}): its gate is {'met' if found.met else 'not met'}")
    for what, seen, asked, met in found.rows():
        click.echo(f"  {'ok    ' if met else 'lacks '}  {what:<34}  {seen:<28}  {asked}")
    for needed in found.lacking():
        click.echo(f"still needed: {needed}")


def _enforce(rule: Rule, policy: Policy, writing: bool) -> None:
    """Say, or make, the one change that enforces a rule."""
    if rule.mode is Mode.ENFORCE:
        click.echo(f"{rule.id} is enforced already", err=True)
        return
    version = f"raise the version of pack {rule.pack} to {policy.packs[rule.pack] + 1}, so that gateways take it for a new one"
    if not writing:
        click.echo(
            f"{rule.place}: write `mode: enforce` in place of `mode: {rule.mode}` (or use --write), and {version}", err=True
        )
        return
    try:
        set_mode(rule, Mode.ENFORCE)
    except LoadError as error:
        fail(error, 2)
    click.echo(f"{rule.place.path}: {rule.id} is now `mode: enforce`; {version}", err=True)
