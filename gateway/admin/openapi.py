"""The OpenAPI document of the admin listener, written from the table of its operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.admin.operations import OPERATIONS, Operation
from gateway.admin.shapes import Problem
from gateway.sections import Role

PROBLEM: Final = "application/problem+json"
REFUSALS: Final = {
    400: "what is asked cannot be understood; detail says what and where",
    401: "no token, or one that nobody has",
    403: "the token's role does not suffice",
    429: "too often in this minute",
}
_REF: Final = "#/components/schemas/{name}"


def document(version: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1. version: of the program."""
    shapes = [one for operation in OPERATIONS for one in (operation.body, operation.answer) if one not in (None, str)]
    schemas, components = msgspec.json.schema_components([*shapes, Problem], ref_template=_REF)
    found = dict(zip(map(id, [*shapes, Problem]), schemas, strict=True))
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluicegate admin", "version": version},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(one: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    kind = "text/plain" if one.answer is str else "application/json"
    schema = {"type": "string"} if one.answer is str else schemas[id(one.answer)]
    refusals = {code: text for code, text in REFUSALS.items() if code != 403 or one.role is Role.OPERATE} | dict(one.refusals)
    if one.asked.__struct_fields__ == () and one.body is None:
        refusals[400] = "it takes no parameters"
    answers = {str(code): _answer(text, PROBLEM, schemas[id(Problem)]) for code, text in sorted(refusals.items())}
    found: dict[str, Any] = {
        "operationId": one.name, "summary": one.summary, "x-role": str(one.role), "parameters": list(_parameters(one)),
        "responses": {"200": _answer(one.summary, kind, schema), **answers},
    }  # fmt: skip
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[id(one.body)]}}}
    return found


def _answer(text: str, kind: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _parameters(one: Operation) -> Iterator[dict[str, Any]]:
    """The fields of what is asked: in the path where it names them, else in the query."""
    schema = msgspec.json.schema(one.asked)
    shape = schema["$defs"][one.asked.__name__]
    for name, about in shape["properties"].items():
        where = "path" if "{" + name + "}" in one.path else "query"
        yield {"name": name, "in": where, "required": name in shape["required"], "schema": _plain(about)}


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without its null: what is left out is not sent, and no text is null."""
    ways = [way for way in about.get("anyOf", ()) if way != {"type": "null"}]
    return ways[0] if ways else about
