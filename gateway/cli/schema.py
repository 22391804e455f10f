"""`sluice schema`: the JSON Schemas of everything that is written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import click

from gateway import __version__
from gateway.admin.openapi import document as admin_document
from gateway.language.schema import document, pack_schema, table, workloads_schema
from gateway.registry import load as load_registry
from gateway.replay.schema import tests_schema
from gateway.sections import CONFIG_FIELDS
from gateway.signals import Catalogue
from gateway.strict.shapes import Schema


def config_schema(catalogue: Catalogue) -> Schema:
    """The schema of gateway.yaml; it speaks of no signals."""
    return document("Settings of the gateway", table(CONFIG_FIELDS), {})


ADMIN: Final = "admin"
SCHEMAS: Final[dict[str, Callable[[Catalogue], Schema]]] = {
    "pack": pack_schema, "tests": tests_schema, "workloads": workloads_schema, "config": config_schema,
}  # fmt: skip


@click.command()
@click.argument("what", type=click.Choice([*SCHEMAS, ADMIN]), default="pack")
def schema(what: str) -> None:
    """Print the JSON Schema of packs, rule tests, workloads or gateway.yaml, for editors; of `admin` the OpenAPI document.

    Exit: 0.
    """
    found = admin_document(__version__) if what == ADMIN else SCHEMAS[what](load_registry({}).signals)
    click.echo(json.dumps(found, indent=1, ensure_ascii=False))
