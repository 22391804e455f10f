"""The admin listener as a Starlette app: each request is let in, understood by the types of its operation, and answered.

Errors are RFC 9457 problem details. What cannot be understood is told with its place; of what was sent nothing is repeated but
names of parameters and fields. Who has no token learns nothing, not even which paths there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.admin.access import MINUTE, Access, Token
from gateway.admin.desk import Desk
from gateway.admin.openapi import PROBLEM, document
from gateway.admin.operations import OPERATIONS, Operation
from gateway.admin.operations import Request as Understood
from gateway.admin.refused import RefusedError
from gateway.admin.shapes import Problem
from gateway.jsontext import strict_json
from gateway.protocol import Unreadable
from gateway.sections import Role

LARGEST: Final = 65_536
_TITLES: Final = {404: "There is nothing here", 405: "This is not done here", 413: "The body is too large"}
_LATER: Final = {"retry-after": str(MINUTE)}
_JSON: Final = msgspec.json.Encoder(enc_hook=str)


def admin_app(desk: Desk, access: Access, version: str) -> Starlette:
    """The app of one process. version: of the program, for its document."""
    by_path: dict[str, dict[str, Operation]] = {}
    for one in OPERATIONS:
        by_path.setdefault(one.path, {})[one.method] = one
    routes = [Route(path, _endpoint(desk, found), methods=list(found)) for path, found in by_path.items()]
    described = _JSON.encode(document(version))

    async def description(request: Request) -> Response:
        return Response(described, media_type="application/json")

    return Starlette(
        routes=[*routes, Route("/openapi.json", description)],
        middleware=[Middleware(Door, access=access)],
        exception_handlers={HTTPException: _not_here, RefusedError: _refused},
    )


class Door:
    """Lets in who brings a good token and does not ask too often; what comes in carries `token` in its state.

    A stranger gets 401 at any rate, which is true however often it is asked. Where wrong tokens come too often the answer names
    a time to wait for and the connection ends with it; a good token is taken all the while.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        offered = Request(scope).headers.get("authorization", "")
        token = self.access.token(offered)
        if token is None:
            wait = {} if not offered or self.access.guessed() else {**_LATER, "connection": "close"}
            told = {"www-authenticate": "Bearer", **wait}
            answer = _problem(401, "A token is needed, as Authorization: Bearer …", headers=told)
        elif not self.access.admits(token):
            answer = _problem(429, "Too often in this minute", headers=_LATER)
        else:
            scope.setdefault("state", {})["token"] = token
            return await self.app(scope, receive, send)
        return await answer(scope, receive, send)


def _endpoint(desk: Desk, operations: Mapping[str, Operation]) -> Any:
    async def endpoint(request: Request) -> Response:
        one = operations["GET" if request.method == "HEAD" else request.method]
        token: Token = request.state.token
        if not token.role.may(one.role):
            raise RefusedError(403, f"The token '{token.name}' may only {Role.READ}", f"this needs the role {one.role}")
        answer = await one.handle(desk, Understood(token, _given(request, one), await _body(request, one)))
        if isinstance(answer, str):
            return Response(answer, media_type="text/plain; version=0.0.4; charset=utf-8")
        return Response(await asyncio.to_thread(_JSON.encode, answer), media_type="application/json")

    return endpoint


def _given(request: Request, one: Operation) -> Any:
    """The parameters of a request. Raises RefusedError where one is unknown, given twice, or not of its type."""
    pairs = request.query_params.multi_items()
    given: dict[str, str] = dict(pairs)
    if len(pairs) > len(given):
        raise RefusedError(400, "A parameter is given twice", "give each at most once")
    if both := given.keys() & request.path_params.keys():
        raise RefusedError(400, "A parameter of the path is given in the query, too", f"leave out {', '.join(sorted(both))}")
    return _of_type({**given, **request.path_params}, one.asked, "parameters")


async def _body(request: Request, one: Operation) -> Any:
    if one.body is None:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(400, "The body is not application/json", "send JSON, and say so in content-type")
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST:
            raise RefusedError(413, _TITLES[413], f"send at most {LARGEST} bytes")
    try:
        return _of_type(strict_json(raw), one.body, "body")
    except Unreadable as error:
        raise RefusedError(400, "The body cannot be read", str(error)) from None


def _of_type(value: object, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind, strict=where == "body")
    except msgspec.ValidationError as error:
        raise RefusedError(400, f"The {where} cannot be understood", str(error)) from None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _problem(error.status, error.title, error.detail)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, _TITLES.get(error.status_code, error.detail), headers=error.headers)


def _problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    told = Problem(f"urn:sluicegate:admin:{status}", title, status, detail or msgspec.UNSET)
    return Response(_JSON.encode(told), status, headers, media_type=PROBLEM)
