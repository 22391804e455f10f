"""Other policy engines on the same rules: Cedar, CEL (two implementations) and Rego, each by its own best way of calling.

Policies are parsed once. An exchange is a mapping of plain values; what an engine makes of it to look at it is part of its
answer, which is the ids of the rules that hold.

    pip install cedarpy==4.12.2 common-expression-language==0.10.0 cel-python==0.5.0 regopy==1.5.2
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from tests.bench.forty import RULES, Comparison

Ask = Callable[[Any], frozenset[str]]
Prepare = Callable[[Mapping[str, Any]], Any]
_CEDAR: Final = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def rivals() -> Iterator[tuple[str, Prepare, Ask]]:
    """Those that are installed: what to call them, what prepares an exchange, and what asks."""
    for name, module, build in (
        ("Cedar (cedarpy)", "cedarpy", _cedar),
        ("CEL (common-expression-language)", "cel", _cel),
        ("CEL (cel-python)", "celpy", _celpy),
        ("Rego (regopy)", "regopy", _rego),
    ):
        try:
            found = import_module(module)
        except ModuleNotFoundError:
            print(f"{name}: not installed, left out; see tests/bench/rivals.py for how to install it")
            continue
        yield (name, *build(found))


def _name(signal: str) -> str:
    return signal.replace(".", "_")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_name(signal): value for signal, value in values.items()}


def _infix(comparison: Comparison, prefix: str, contains: str) -> str:
    signal, word, operand = comparison
    name = prefix + _name(signal)
    if word == "between":
        return f"{name} >= {operand[0]} && {name} <= {operand[1]}"
    if word == "in":
        return contains.format(name=name, items=json.dumps(operand))
    return f"{name} {_CEDAR[word]} {json.dumps(operand)}"


def _cedar(cedarpy: Any) -> tuple[Prepare, Ask]:
    policies = []
    for rule, comparisons in RULES.items():
        held = " && ".join(_infix(one, "context.", "{items}.contains({name})") for one in comparisons)
        policies.append(f'@id("{rule}")\npermit(principal, action, resource) when {{ {held} }};')
    parsed = cedarpy.PolicySet.from_str("\n".join(policies))
    entities = cedarpy.Entities.from_json_str("[]")
    ids = {f"policy{place}": rule for place, rule in enumerate(RULES)}
    request = {"principal": 'User::"u"', "action": 'Action::"a"', "resource": 'Model::"m"'}

    def ask(prepared: Any) -> frozenset[str]:
        result = cedarpy.is_authorized(prepared, parsed, entities)
        return frozenset([ids.get(reason, reason) for reason in result.diagnostics.reasons])

    return (lambda values: {**request, "context": _flat(values)}), ask


def _cel_text(comparisons: list[Comparison]) -> str:
    return " && ".join(_infix(one, "", "{name} in {items}") for one in comparisons)


def _cel(cel: Any) -> tuple[Prepare, Ask]:
    programs = [(rule, cel.compile(_cel_text(comparisons))) for rule, comparisons in RULES.items()]

    def ask(prepared: Any) -> frozenset[str]:
        context = cel.Context(prepared)
        return frozenset([rule for rule, program in programs if program.execute(context)])

    return _flat, ask


def _celpy(celpy: Any) -> tuple[Prepare, Ask]:
    environment = celpy.Environment()
    programs = [(r, environment.program(environment.compile(_cel_text(comparisons)))) for r, comparisons in RULES.items()]

    def ask(prepared: Any) -> frozenset[str]:
        activation = celpy.json_to_cel(prepared)
        return frozenset([rule for rule, program in programs if program.evaluate(activation)])

    return _flat, ask


def _rego(regopy: Any) -> tuple[Prepare, Ask]:
    lines = ["package bench", "import rego.v1"]
    for rule, comparisons in RULES.items():
        held = "; ".join(_infix(one, "input.", "{name} in {items}").replace(" && ", "; ") for one in comparisons)
        lines.append(f'holds contains "{rule}" if {{ {held} }}')
    interpreter = regopy.Interpreter()
    interpreter.add_module("bench.rego", "\n".join(lines))
    bundle = interpreter.build("x = data.bench.holds")

    def ask(prepared: Any) -> frozenset[str]:
        interpreter.set_input(prepared)
        output = interpreter.query_bundle(bundle)  # held on to: its parts die with it
        return frozenset(json.loads(output.binding("x").json()))

    return _flat, ask
