"""`sluice explain`: one decision, leaf by leaf, and what would change it.

It is opened by its reference, or by the line of an audit record; the line of a capture is judged now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from gateway.audit.sealing import Opener
from gateway.cli.common import CONFIG, PATHS, configured, fail
from gateway.config import Config
from gateway.errors import RecordError, ReplayError, SluiceError, did_you_mean
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.replay.caller import caller_lines, caller_view
from gateway.replay.captured import explain_capture
from gateway.replay.exchange import is_capture
from gateway.replay.explain import Explanation
from gateway.replay.explain import explain as explain_record
from gateway.replay.layout import lines
from gateway.replay.lookup import line_at, line_of, read_entry
from gateway.replay.printing import plain, printable
from gateway.replay.sources import Reader
from gateway.replay.telling import told
from gateway.web.intake import Intake

_COLOURS: Final = {"good": "green", "bad": "red", "doubt": "yellow"}


class Wish(click.Option):
    """A flag that its variable sets by being there, whatever it says (no-color.org)."""

    def value_from_envvar(self, ctx: click.Context) -> str | None:
        return "yes" if self.resolve_envvar_value(ctx) else None


@click.command()
@click.argument("reference", required=False)
@click.option("--record", "where", help="FILE:LINE of an audit record, or of a capture, which is then evaluated now.")
@click.option("--records", type=PATHS, help="Where to look the reference up: the config's records, or the folder audit.")
@click.option("--policy", "policies", multiple=True, type=PATHS, help="Packs or folders; the bundled rules if left out.")
@CONFIG
@click.option("--rule", "only", help="Explain this rule, even if it did not match.")
@click.option(
    "--view",
    type=click.Choice(["operator", "caller"]),
    default="operator",
    help="Whose view: all, or what callers may be told.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.option("--verbose", is_flag=True, help="Blind spots and references of the rules, too.")
@click.option("--no-color", "colourless", cls=Wish, envvar="NO_COLOR", is_flag=True, help="Plain text on a terminal.")
def explain(
    reference: str | None,
    where: str | None,
    records: Path | None,
    policies: tuple[Path, ...],
    config: Path | None,
    only: str | None,
    view: str,
    form: str,
    verbose: bool,
    colourless: bool,
) -> None:
    """Explain one decision, leaf by leaf. Exit: 0, 1 not found, 2 bad rules, or a replay that differs."""
    if (reference is None) == (where is None):
        raise click.UsageError("name either a reference or --record FILE:LINE")
    if view == "caller" and only is not None:
        raise click.UsageError("the caller's view names no rule; leave out --rule")
    try:
        registry, settings = configured(config)
        policy = load(policies or settings.policy, registry.signals)
    except SluiceError as error:
        fail(error, 2)
    if only is not None and policy.rule(only) is None:
        fail(_no_rule(only, policy), 2)
    kept = records or settings.records or Path("audit")
    explanation = _explained(reference, where, kept, policy, registry, settings)
    tree = caller_view(explanation) if view == "caller" else told(explanation, [only] if only else ())
    if form == "json":
        click.echo(json.dumps(tree, indent=2, ensure_ascii=False))
        return
    shown: Iterable[str] = (
        caller_lines(printable(tree)) if view == "caller" else lines(tree, plain if colourless else _painted, verbose)
    )
    for line in shown:
        click.echo(line)


def _no_rule(name: str, policy: Policy) -> str:
    limits = [plan.limit.id for plan in policy.limits]
    if name in limits:
        return f"'{name}' is a limit of the plan, not a rule: what it answered stands under 'limit'; leave out --rule"
    return f"no rule '{name}' in this policy; {did_you_mean(name, [rule.id for rule in policy.rules])}".rstrip("; ")


def _explained(
    reference: str | None, where: str | None, kept: Path, policy: Policy, registry: Registry, settings: Config
) -> Explanation:
    place: Any = where or kept
    try:
        opener = settings.audit.opens()
        place, sealed = line_at(where) if where else line_of(reference or "", kept)
        text = opener(sealed)
        reader = Reader(Intake(registry, settings.hash_key, settings.largest_body), registry.signals)
        if where and _captured(text):
            exchange = reader.exchange(text, place)
            return explain_capture(exchange, policy, registry.signals, settings.mode, settings.fail)
        entry = read_entry(text, place)
        return explain_record(reader.exchange(text, place), entry, policy, registry.signals)
    except RecordError as error:
        fail(error, 1)
    except OSError as error:
        fail(f"{error.filename or place}: cannot be read: {error.strerror or error}", 1)
    except ReplayError as error:
        fail(f"{error}{_hidden(text, opener)}", 2)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        fail(f"{place}: is not a whole audit record: {type(error).__name__}: {error}", 1)
    except LookupError as error:
        fail(error, 1)
    except SluiceError as error:
        fail(error, 2)


def _hidden(text: bytes, opener: Opener) -> str:
    """Why a record may evaluate to another answer: what rules compared is not in it."""
    if opener.unopened:
        return f"; its identifiers are hashed here: {next(iter(opener.unopened))}"
    hashed = b'"names":' in text
    return "; its identifiers are hashed: `audit.identifiers: sealed` keeps what rules compare with" if hashed else ""


def _captured(text: bytes) -> bool:
    try:
        return is_capture(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _painted(text: str, kind: str) -> str:
    return click.style(text, fg=_COLOURS[kind])
