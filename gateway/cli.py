"""The command line: serve · check · test · dry-run · explain · signals.

Exit codes are part of the interface (see each command's help). Results go to standard output; progress and complaints to
standard error.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import click

from gateway import __version__
from gateway.config import Config, bundled_rules, default_config, load_config
from gateway.errors import ConfigError, LoadError, PolicyError, RecordError, ReplayError, SluiceError
from gateway.language.compile import load, pack_files
from gateway.language.lint import lint
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.replay.cases import load_cases
from gateway.replay.driver import DRY_RUN_KEY
from gateway.replay.dry_run import dry_run as run_dry
from gateway.replay.explain import explain as explain_record
from gateway.replay.explain import tell
from gateway.replay.report import write
from gateway.replay.rule_tests import Results
from gateway.replay.rule_tests import run as run_cases
from gateway.replay.sources import Reader, line_at, line_of
from gateway.web.door import known_protocols
from gateway.web.intake import Intake

GRACE = 30  # seconds that running streams have left after the order to stop
PATHS = click.Path(path_type=Path)
CONFIG = click.option("--config", type=PATHS, help="A gateway.yaml whose geo, identity and reseller sections are used.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sluice")
def main() -> None:
    """Sluicegate: a policy-aware gateway for LLM APIs."""


@main.command()
@click.argument("config", type=PATHS)
def serve(config: Path) -> None:
    """Run the gateway process. Exit: 0, or 2 for a bad config."""
    import uvicorn

    from gateway.web.app import build
    from gateway.web.server import Protocol

    try:
        settings = load_config(config)
        listening = _listen(settings.host, settings.port)
        process = build(settings)
    except SluiceError as error:
        _fail(error, 2)
    policy = process.gate.policy
    click.echo(f"sluice {__version__} on http://{settings.host}:{settings.port}", err=True)
    click.echo(
        f"policy {policy.digest[:19]}… version {policy.version}, {len(policy.rules)} rules, mode {settings.mode}", err=True
    )
    for finding in lint(policy):
        click.echo(f"finding: {finding}", err=True)
    if not settings.lasting_key:
        click.echo("no hash key is set (identity.hash_key_file): hashes will not join with those of another run", err=True)
    server = uvicorn.Config(
        process.app, http=Protocol, ws="none", proxy_headers=False, timeout_graceful_shutdown=GRACE,
        log_level="warning", access_log=False, server_header=False, date_header=False,
    )  # fmt: skip
    uvicorn.Server(server).run(sockets=[listening])


@main.command()
@click.argument("paths", nargs=-1, type=PATHS)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def check(paths: tuple[Path, ...], form: str) -> None:
    """Load and judge packs and gateway.yaml files. Exit: 0 clean, 1 findings, 2 cannot load."""
    try:
        packs, configs = _sorted(paths or (bundled_rules(),))
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
        _fail(error, 2)
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


@main.command()
@click.argument("paths", nargs=-1, type=PATHS)
def test(paths: tuple[Path, ...]) -> None:
    """Run rule tests (*.test.yaml beside the packs). Exit: 0, 1 failures, 2 cannot load."""
    try:
        registry = load_registry({})
        packs, _ = _sorted(paths or (bundled_rules(),))
        policy = load(packs, registry.signals)
        files = [file for pack in pack_files(packs) if (file := pack.with_name(f"{pack.stem}.test.yaml")).exists()]
        results = run_cases(load_cases(files, policy, registry.signals), policy, registry.signals)
    except LoadError as error:
        _fail(error, 2)
    _tell_tests(results)
    sys.exit(0 if results.passed else 1)


@main.command("dry-run")
@click.argument("records", nargs=-1, required=True)
@click.option("--policy", "policies", multiple=True, type=PATHS, help="Packs or folders; the bundled rules if left out.")
@CONFIG
@click.option("--labels", type=PATHS, help="A JSON file: account id to label, in place of the records' own labels.")
@click.option("--decisions", type=PATHS, help="Write one audit record per exchange here.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.option("--out", type=PATHS, help="Write the report here instead of standard output.")
@click.option(
    "--max-benign-share", type=float, help="Exit 1 if a larger share of exchanges not labelled distill would be refused."
)
def dry_run(
    records: tuple[str, ...],
    policies: tuple[Path, ...],
    config: Path | None,
    labels: Path | None,
    decisions: Path | None,
    form: str,
    out: Path | None,
    max_benign_share: float | None,
) -> None:
    """Replay RECORDS (captures or audit records; - is standard input) through a policy.

    Exit: 0, 1 a stated budget exceeded, 2 bad rules, 3 bad or empty records.
    """
    try:
        registry, settings = _registry(config)
        policy = load(policies or settings.policy, registry.signals)
    except SluiceError as error:
        _fail(error, 2)
    try:
        named = _labels(labels) if labels else {}
        report, reader = run_dry(
            records, policy, registry, hash_key=settings.hash_key, fail=settings.fail, mode=settings.mode,
            largest=settings.largest_body, labels=named, decisions=decisions, on_error=_tell_unreadable,
        )  # fmt: skip
    except (OSError, ValueError, RecordError) as error:
        _fail(error, 3)
    result = report.as_dict(reader.read, reader.unreadable)
    try:
        write(result, form, out)
    except OSError as error:
        _fail(f"{out}: cannot be written: {error.strerror}", 2)
    if not reader.read:
        _fail("no record could be read", 3)
    if max_benign_share is not None and report.benign_share > max_benign_share:
        _fail(f"{report.benign_share:.4%} of benign exchanges would be refused, more than {max_benign_share:.4%}", 1)


@main.command()
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
        registry, settings = _registry(config)
        policy = load(policies or settings.policy, registry.signals)
    except SluiceError as error:
        _fail(error, 2)
    if only is not None and policy.rule(only) is None:
        _fail(f"no rule '{only}' in this policy", 2)
    try:
        kept = records or settings.records or Path("audit.jsonl")
        place, text = line_at(where) if where else line_of(reference or "", kept)
        exchange = Reader(Intake(registry, DRY_RUN_KEY), registry.signals).exchange(text, place)
        entry = json.loads(text)
        if "signals" not in entry:
            raise RecordError(place, "is a capture; 'sluice dry-run --decisions' makes audit records of captures")
        told = list(tell(explain_record(exchange, entry, policy, registry.signals), only))
    except (OSError, RecordError, LookupError) as error:
        _fail(error, 1)
    except (ValueError, TypeError, AttributeError) as error:
        _fail(f"{place}: is not a whole audit record: {error}", 1)
    except ReplayError as error:
        _fail(error, 2)
    for text_line in told:
        click.echo(text_line)


@main.command()
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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SluiceError(f"cannot listen on {host}:{port}: {error.strerror}; set 'listen' to a free address") from None
    return listening


def _registry(file: Path | None) -> tuple[Registry, Config]:
    """The signals and settings of a gateway.yaml, or the defaults with the key that makes dry runs repeatable."""
    settings = load_config(file) if file is not None else default_config(DRY_RUN_KEY)
    return load_registry(settings.settings), settings


def _sorted(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Packs and gateway.yaml files apart, by what stands in them."""
    packs: list[Path] = []
    configs: list[Path] = []
    for path in paths:
        is_config = path.is_file() and re.search(r"^upstreams:", path.read_text(errors="replace"), re.MULTILINE)
        (configs if is_config else packs).append(path)
    return packs, configs


def _labels(file: Path) -> dict[str, str]:
    found = json.loads(file.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{file}: must be a JSON object of account ids and labels")
    return {str(account): str(label) for account, label in found.items()}


def _tell_unreadable(error: RecordError) -> None:
    click.echo(f"unreadable: {error}", err=True)


def _tell_tests(results: Results) -> None:
    for failure in results.failures:
        click.echo(str(failure))
    for gap in results.uncovered:
        click.echo(f"not covered: {gap}")
    passed = results.ran - len({failure.case.place for failure in results.failures})
    click.echo(f"{results.ran} cases, {passed} passed, {len(results.uncovered)} gaps")
    if not results.ran:
        click.echo("no case was run: write <pack>.test.yaml beside the pack", err=True)


def _fail(error: object, code: int) -> NoReturn:
    click.echo(f"sluice: {error}" if not isinstance(error, (PolicyError, ConfigError)) else str(error), err=True)
    sys.exit(code)
