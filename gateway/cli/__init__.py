"""The command line: serve · check · test · dry-run · explain · audit · asked · geo · clusters · signals · schema.

Exit codes are part of the interface (see each command's help). Results go to standard output; progress and complaints to
standard error. A command is imported when it is called: together they take longer to import than the gateway to start.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from gateway import __version__

MODULES: Final = {
    "serve": "serve", "check": "check", "test": "rule_tests", "dry-run": "dry_run", "explain": "explain", "asked": "asked",
    "geo": "geo", "signals": "signals", "schema": "schema", "clusters": "clusters", "compact": "compact",
    "simulate": "simulate", "config": "settings", "promote": "promote", "audit": "audit_keys",
}  # fmt: skip


class Commands(click.Group):
    """The commands, each in a module of this package under its own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        found: click.Command = getattr(import_module(f"gateway.cli.{MODULES[cmd_name]}"), cmd_name.replace("-", "_"))
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sluice")
def main() -> None:
    """Sluicegate: a policy-aware gateway for LLM APIs."""
