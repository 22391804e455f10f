"""WebSockets in somebody else's app: the handshake is judged as any request is, by what its head states.

What is said on a socket afterwards nobody looks at. So on a path that a protocol knows, where a request would be inspected, a
socket has a cause of its own (`websocket`), which is refused unless `fail` declares that it may pass; the app's own sockets
pass as its own routes do, and the record says that they were not recognised. The process carries none at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, Final

from gateway.facts import Cause, Facts
from gateway.web.exchange import Exchange, Refuse
from gateway.web.intake import Intake

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ANSWERS: Final = "websocket.http.response"  # the ASGI extension with which a handshake can be answered in words
REFUSED: Final = 1008  # RFC 6455 §7.4.1: it violates policy
SWITCHED: Final = 101
FORBIDDEN: Final = 403  # what a server answers a handshake that is closed before it was accepted


def handshake(intake: Intake, exchange: Exchange, facts: Facts) -> Facts:
    """The facts of a handshake: on a path of a protocol, whatever its method, it is a way around the inspection."""
    head, registry = exchange.head, intake.registry
    methods = {method for method, _ in registry.routes}
    known = any(registry.route(method, head.path, head.header) for method in methods)
    return replace(facts, cause=Cause.WEBSOCKET) if known else facts


async def refuse(plan: Refuse, exchange: Exchange, extensions: object, receive: Receive, send: Send) -> None:
    """Answer a handshake: in words where the server can send them, else with the code that closes it."""
    await receive()  # websocket.connect
    headers = exchange.answer_head(plan.status, plan.headers)
    if isinstance(extensions, dict) and ANSWERS in extensions:
        await send({"type": f"{ANSWERS}.start", "status": plan.status, "headers": headers})
        await send({"type": f"{ANSWERS}.body", "body": plan.body})
    else:
        await send({"type": "websocket.close", "code": REFUSED, "reason": "refused by policy"})


def told(exchange: Exchange, send: Send) -> Send:
    """A send by which the exchange learns how the app answered the handshake, and which adds our headers to it."""

    async def tapped(message: Message) -> None:
        kind = message["type"]
        if not exchange.begun and kind == "websocket.accept":
            message = {**message, "headers": exchange.answer_head(SWITCHED, list(message.get("headers", ())))}
        elif not exchange.begun and kind == f"{ANSWERS}.start":
            message = {**message, "headers": exchange.answer_head(message["status"], list(message.get("headers", ())))}
        elif not exchange.begun and kind == "websocket.close":
            exchange.answer_head(FORBIDDEN, [])
        await send(message)

    return tapped
