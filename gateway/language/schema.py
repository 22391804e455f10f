"""The JSON Schema (2020-12) of packs and workloads, so that editors complete and check them while they are written.

It is written from the loader's own tables: keys, their meaning and what they take come from the `Field`s, comparisons from the
operators, names from the signal catalogue. Only what code decides beyond a table (which operators follow which type, which keys
go with which action) is put together here, from the tables of that code.

A schema is an approximation: it accepts everything that loads, and catches unknown keys and signals, wrong types and most
malformed values; `sluice check` judges the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import iso3166

import gateway.language.amounts as amounts
import gateway.language.exemptions as exemptions
import gateway.language.lists as lists
import gateway.language.measures as measures
import gateway.language.packs as packs
import gateway.language.plans as plans
import gateway.language.responses as responses
import gateway.language.rules as rules
import gateway.language.words as words
import gateway.language.workloads as workloads
import gateway.values as values
from gateway.language.conditions import GROUPS, RESERVED
from gateway.language.operators import OPERATORS, Operand
from gateway.language.text import TextView
from gateway.signals import Catalogue, Signal
from gateway.strict.shapes import Field, Schema, filled, object_schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ADDRESS: Final = r"[0-9a-fA-F.:]+(?:%[^/\s]+)?"
_LIST_NAME: Final[Schema] = {"type": "string", "pattern": f"^@{lists.NAME.pattern}$", "description": "a list of this pack"}


def whole_text(pattern: str) -> Schema:
    """Text of which the whole is in a regular language."""
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def _any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter.lower()}]" for letter in word)


_DURATION: Final = whole_text(r"[0-9]{1,16}(?:us|ms|s|m|h|d|w)")
_MEASURED: Final = (values.INT, values.FLOAT, values.DURATION)
_COUNTRIES: Final = sorted(iso3166.countries_by_alpha2)
VALUES: Final[Mapping[values.Type, Schema]] = {
    values.STRING: {"type": "string", "description": "text; in quotes where it looks like a number, true, false or null"},
    values.INT: {"type": "integer", "description": "a whole number"},
    values.FLOAT: {"type": "number", "description": "a number"},
    values.BOOL: {"type": "boolean", "description": "true or false"},
    values.DURATION: _DURATION | {"description": "a whole number and us, ms, s, m, h, d or w, such as 30s or 30d"},
    values.TIMESTAMP: {
        "type": ["string", "number"],
        "description": "RFC 3339, such as 2026-11-01T00:00:00Z, or seconds since 1970",
    },
    values.COUNTRY: {
        "anyOf": [{"enum": _COUNTRIES}, whole_text("|".join(map(_any_case, _COUNTRIES)))],
        "description": "an ISO 3166-1 alpha-2 code, such as NO",
    },
    values.ASN: {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 2**32 - 1}, whole_text("(?:[aA][sS])?[0-9]+")],
        "description": "an AS number, such as 64500 or AS64500",
    },
    values.IP: whole_text(_ADDRESS) | {"description": "an IPv4 or IPv6 address"},
    values.CIDR: whole_text(_ADDRESS + r"(?:/[0-9.]+)?")
    | {"description": "a network, such as 203.0.113.0/24; an address is one of its own"},
}
CONVERTERS: Final[Mapping[Any, Schema]] = {
    None: {},
    values.parse_duration: _DURATION,
    values.parse_timestamp: {"type": ["string", "number"]},
    words.slug: whole_text(words.SLUG.pattern) | {"maxLength": words.MAX_SLUG},
    packs.language_of: {"const": packs.LANGUAGE},
    rules.within_of: _DURATION,
    rules.share_of: whole_text(rules.PERCENT.pattern),
    plans.lease_of: _DURATION,
    plans.price_of_tokens: {"type": "number", "minimum": 0},
    responses.hold_of: _DURATION,
    responses.tag_of: whole_text(responses.TAG.pattern),
    responses.link_of: whole_text(responses.LINK.pattern) | {"maxLength": responses.MAX_LINK},
}


def table(fields: Mapping[str, Field], /, **narrower: Schema) -> Schema:
    """The schema of a table, with what is known of some of its keys beyond the table."""
    found: Schema = filled(object_schema(fields), CONVERTERS)
    for key, schema in narrower.items():
        found["properties"][key] = found["properties"][key] | schema
    return found


def ref(name: str) -> Schema:
    """The definition of that name."""
    return {"$ref": f"#/$defs/{name}"}


def value(kind: values.Type) -> Schema:
    """A value as it is written where one of this type is given; a set may be empty, or written as its only element."""
    several = {"type": "array", "items": VALUES[kind.scalar]}
    return {"anyOf": [VALUES[kind.scalar], several]} if kind.element else VALUES[kind]


def document(title: str, root: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A whole schema."""
    return {"$schema": DIALECT, "title": title, **root, "$defs": dict(definitions)}


def pack_schema(catalogue: Catalogue) -> Schema:
    """The schema of a pack over these signals."""
    root = table(
        packs.PACK_FIELDS, lists=_named(lists.NAME, ref("list")), rules={"items": ref("rule")},
        limits={"items": ref("limit")}, prices={"type": "object", "minProperties": 1, "additionalProperties": ref("price")},
    )  # fmt: skip
    key = {"items": ref("key")}
    early = [signal for signal in catalogue.values() if not signal.counted]
    asked = [signal for signal in early if not signal.late]
    rule = table(
        rules.RULE_FIELDS, measures=_measures(catalogue), when=ref("condition"), then=ref("then"),
        corroborate=table(rules.CORROBORATE_FIELDS, per=key), evidence={"items": ref("named")}, exceptions=_exceptions(),
    )  # fmt: skip
    shown = {"anyOf": [{"enum": sorted(catalogue)}, {"type": "string", "pattern": f"^{lists.NAME.pattern}$"}]}
    definitions = {
        "rule": rule,
        "limit": table(plans.LIMIT_FIELDS, per=key, limit=_amount(), when=ref("selection")),
        "price": table(plans.PRICE_FIELDS),
        "list": _list(),
        "measure": _measure(catalogue),
        "then": {"if": {"required": ["steps"]}, "then": _steps(), "else": _effect(responses.EFFECT_FIELDS)},
        "condition": _condition("condition", [s for s in catalogue.values() if not s.settled], _others(catalogue)),
        "selection": _condition("selection", asked, {}),
        "filter": _condition("filter", early, {}),
        "key": {"enum": sorted(signal.name for signal in asked), "description": "a signal of the request"},
        "named": shown | {"description": "a signal, or a measure of this rule"},
    }
    kinds = {signal.type for signal in catalogue.values()} | set(_MEASURED)
    leaves = {_leaf_name(kind): _leaf(kind) for kind in sorted(kinds, key=str)}
    return document("A pack of Sluicegate rules", root, definitions | leaves)


def workloads_schema(catalogue: Catalogue) -> Schema:
    """The schema of `workloads.yaml` over these signals."""
    root = table(workloads.FILE_FIELDS, workloads={"items": workload_schema(catalogue)})
    return document("Declared workloads", root, {})


def workload_schema(catalogue: Catalogue) -> Schema:
    """The schema of one declared workload."""
    scope: dict[str, Schema] = {
        key: _several(catalogue[name].type) if name in catalogue else {"not": {}} for key, name in workloads.SCOPE.items()
    }
    return table(workloads.WORKLOAD_FIELDS, **scope, ceiling=_amount())


def _named(name: re.Pattern[str], item: Schema) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": f"^{name.pattern}$"}, "additionalProperties": item}


def _several(kind: values.Type) -> Schema:
    return {"type": "array", "minItems": 1, "items": VALUES[kind.scalar]}


def _amount() -> Schema:
    return whole_text(rf"\s*{amounts.LIMIT.pattern}\s*")


def _others(catalogue: Catalogue) -> Schema:
    """The measures that may stand in a condition: their names are open, but neither words nor signals."""
    taken = "|".join(map(re.escape, sorted({*RESERVED, *catalogue})))
    compared = {
        "anyOf": [ref(_leaf_name(kind)) for kind in (values.INT, values.FLOAT, values.DURATION)],
        "description": "a measure of this rule",
    }
    return {f"^(?!(?:{taken})$){lists.NAME.pattern}$": compared}


def _condition(name: str, signals: Iterable[Signal], others: Schema) -> Schema:
    groups = {word: _group(name, group.__doc__ or "") for word, group in GROUPS.items()}
    leaves = {
        signal.name: {"description": signal.meaning, **ref(_leaf_name(signal.type))}
        for signal in sorted(signals, key=lambda signal: signal.name)
    }
    label = {"type": "string", "description": "names this comparison, for tests and explanations"}
    found: Schema = {"type": "object", "minProperties": 1, "properties": {"id": label, **groups, **leaves}}
    found |= {"if": {"required": ["id"]}, "then": {"minProperties": 2}}
    return found | ({"patternProperties": others} if others else {}) | {"additionalProperties": False}


def _group(name: str, meaning: str) -> Schema:
    return {"type": "array", "minItems": 1, "items": ref(name), "description": meaning}


def _leaf_name(kind: values.Type) -> str:
    return "compared-" + str(kind).replace(" ", "-")


def _leaf(kind: values.Type) -> Schema:
    """What may stand under a name of this type: the short forms, or operators."""
    tests: Schema = {
        operator.name: _operand(operator.operand, kind) | {"description": operator.meaning}
        for operator in OPERATORS.values()
        if operator.fits(kind)
    }
    if kind.scalar is values.STRING:
        tests["view"] = {"enum": [str(view) for view in TextView], "description": "what of the text is compared"}
    several = {"anyOf": [VALUES[kind.scalar], _LIST_NAME, _several(kind)]}
    compared = {"type": "object", "minProperties": 1, "properties": tests, "additionalProperties": False}
    return {"if": {"type": "object"}, "then": compared, "else": several}


def _operand(need: Operand, kind: values.Type) -> Schema:
    """What stands to the right of an operator; one that is not listed here demands nothing."""
    return {
        Operand.VALUE: VALUES[kind.scalar],
        Operand.LIST: {"anyOf": [_several(kind), _LIST_NAME]},
        Operand.PAIR: {"type": "array", "minItems": 2, "maxItems": 2, "items": VALUES[kind.scalar]},
        Operand.PATTERN: {"type": "string"},
        Operand.NETWORKS: {"anyOf": [_several(values.CIDR), _LIST_NAME]},
        Operand.FLAG: {"type": "boolean"},
    }.get(need, {})


def _list() -> Schema:
    found = table(lists.LIST_FIELDS, type={"enum": list(values.TYPES)})
    found["oneOf"] = [{"required": ["file"]}, {"required": ["values"]}]
    found["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind.name}}, "required": ["type"]},
            "then": {"properties": {"values": {"items": VALUES[kind]}}},
        }
        for kind in values.TYPES.values()
    ]
    return found


def _measures(catalogue: Catalogue) -> Schema:
    taken = {"not": {"enum": sorted({*RESERVED, *catalogue})}}
    return _named(lists.NAME, ref("measure")) | {"propertyNames": {"pattern": f"^{lists.NAME.pattern}$", **taken}}


def _measure(catalogue: Catalogue) -> Schema:
    named = [name for name, signal in catalogue.items() if not signal.counted]
    numeric = [name for name, signal in catalogue.items() if signal.type in (values.INT, values.DURATION)]
    kinds: dict[str, Schema] = {
        kind: {"enum": sorted(numeric if kind in measures.NUMERIC else named)} for kind in measures.COUNTS
    }
    kinds["count"] = {"const": True}
    two = {"minItems": 2, "maxItems": 2}
    found = table(measures.MEASURE_FIELDS, per={"items": ref("key")}, where=ref("filter"), ratio=two, **kinds)
    windowed = [{"required": [kind, "per", "window"]} for kind in measures.COUNTS]
    found["oneOf"] = [*windowed, {"required": ["ratio"], "maxProperties": 1}]
    return found


def _effect(fields: Mapping[str, Field]) -> Schema:
    found = table(fields, action={"enum": list(responses.ACTIONS)}, per={"items": ref("key")}, limit=_amount())
    found["allOf"] = [
        {
            "if": {"properties": {"action": {"const": action}}, "required": ["action"]},
            "then": {
                "required": list(responses.NEEDS.get(action, ())),
                "properties": {
                    key: False
                    for key in responses.EFFECT_FIELDS
                    if key != "action" and key not in responses.TAKES.get(action, ())
                },
            },
        }
        for action in responses.ACTIONS
    ]
    return found


def _steps() -> Schema:
    step = _effect(responses.STEP_FIELDS)
    step["properties"]["from"] |= {"anyOf": [VALUES[values.FLOAT], VALUES[values.DURATION]]}
    return table(responses.STEPS_FIELDS, of={"pattern": f"^{lists.NAME.pattern}$"}, steps={"items": step})


def _exceptions() -> Schema:
    entry = table(exemptions.ENTRY_FIELDS, values={"type": "array"})
    shape = table(exemptions.EXCEPTION_FIELDS, fields={"items": ref("key")}, entries={"type": "array", "items": entry})
    return {"type": "object", "additionalProperties": shape}
