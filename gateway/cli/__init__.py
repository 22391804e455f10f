"""The command line: serve · check · test · dry-run · explain · audit · asked · geo · clusters · signals · schema.

Exit codes are part of the interface (see each command's help). Results go to standard output; progress and complaints to
standard error.
"""

from __future__ import annotations

import click

from gateway import __version__
from gateway.cli import audit_keys as audit_keys  # its commands stand below `audit`
from gateway.cli.asked import asked
from gateway.cli.audit import audit
from gateway.cli.check import check
from gateway.cli.clusters import clusters
from gateway.cli.compact import compact
from gateway.cli.dry_run import dry_run
from gateway.cli.explain import explain
from gateway.cli.geo import geo
from gateway.cli.promote import promote
from gateway.cli.rule_tests import test
from gateway.cli.schema import schema
from gateway.cli.serve import serve
from gateway.cli.settings import config
from gateway.cli.signals import signals
from gateway.cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sluice")
def main() -> None:
    """Sluicegate: a policy-aware gateway for LLM APIs."""


for command in (
    serve, check, test, dry_run, explain, asked, geo, signals, schema, clusters, compact, simulate, config, promote, audit,
):  # fmt: skip
    main.add_command(command)
