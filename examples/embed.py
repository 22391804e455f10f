"""Sluicegate inside an app of your own: one line around any ASGI app. Run with: uvicorn examples.embed:app"""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway import PolicyMiddleware


async def chat(request: Request) -> JSONResponse:
    body = await request.json()
    decision = request.state.sluice.outcome
    text = f"{body['model']} was asked {len(body['messages'])} messages; the gateway said {decision.action}"
    message = {"role": "assistant", "content": text}
    return JSONResponse({"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


site = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
app = PolicyMiddleware(site, policy=Path(__file__).parents[1] / "rules")
