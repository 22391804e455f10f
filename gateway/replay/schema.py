"""The JSON Schema of rule tests, written from the tables they are read with."""

from __future__ import annotations

from typing import Any

import gateway.replay.cases as cases
import gateway.replay.expectations as expectations
import gateway.replay.traffic as traffic
from gateway.decision import Verdict
from gateway.language.schema import document, ref, table, value, workload_schema
from gateway.replay.scenarios import SCENARIOS
from gateway.signals import Catalogue
from gateway.strict.shapes import Schema


def tests_schema(catalogue: Catalogue) -> Schema:
    """The schema of a `*.test.yaml` over these signals."""
    asked = {name: signal for name, signal in catalogue.items() if not signal.settled}
    given: Schema = {
        "type": "object",
        "properties": {name: {"description": signal.meaning, **value(signal.type)} for name, signal in sorted(asked.items())},
        "additionalProperties": False,
    }
    parts = {"given": ref("given"), "generate": ref("generate"), "answer": table(traffic.ANSWER_FIELDS)}
    each = {"propertyNames": {"enum": sorted(asked)}}
    exempt = _mapping(_mapping({"type": "array", "items": ref("given")}))
    case = table(
        cases.CASE_FIELDS, **parts, sequence={"items": ref("step")}, expect=ref("expect"), exceptions=exempt,
        exchanges={"type": "string"}, shuffle={"type": ["boolean", "integer"], "minimum": 0},
    )  # fmt: skip
    case["oneOf"] = [{"required": [source]} for source in cases.SOURCES]
    root = table(
        cases.FILE_FIELDS, cases={"items": ref("case")}, evasions={"items": ref("case")},
        accepted={"items": table(cases.ACCEPTED_FIELDS)},
        workloads={"type": "array", "items": workload_schema(catalogue)},
    )  # fmt: skip
    definitions = {
        "case": case,
        "step": table(traffic.STEP_FIELDS, **parts, each=each),
        "given": given,
        "generate": _generate(),
        "expect": _expect(),
    }
    return document("Rule tests", root, definitions)


def _mapping(item: Schema) -> Schema:
    return {"type": "object", "additionalProperties": item}


def _generate() -> Schema:
    made: list[dict[str, Any]] = [
        {
            "if": {"properties": {"scenario": {"const": name}}, "required": ["scenario"]},
            "then": table({**traffic.COMMON_FIELDS, **scenario.fields}, given=ref("given")),
        }
        for name, scenario in SCENARIOS.items()
    ]
    named = {"enum": list(SCENARIOS), "description": traffic.COMMON_FIELDS["scenario"].doc}
    return {"type": "object", "required": ["scenario"], "properties": {"scenario": named}, "allOf": made}


def _expect() -> Schema:
    count = {"anyOf": [{"type": "integer", "minimum": 0}, table(expectations.RANGE_FIELDS)]}
    truths = {"enum": [True, False, *expectations.TRUTHS]}
    found = table(
        expectations.EXPECT_FIELDS, leaves=_mapping(truths), matched=_mapping(count), refused=_mapping(count)
    )  # fmt: skip
    return found | {"minProperties": 1, "additionalProperties": {"enum": [str(verdict) for verdict in Verdict]}}
