"""PolicyMiddleware around other people's apps: in this process, and once under uvicorn."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway import Action, PolicyMiddleware
from gateway.audit.record import record
from gateway.decision import Mode
from gateway.facts import Answer
from gateway.judgement import Judgement
from tests.web.conftest import PACK
from tests.web.faulty import delta
from tests.web.running import PATIENCE, free_port

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
EVENTS = [delta("one "), delta("two "), delta("", usage=USAGE, choices=[]), b"data: [DONE]\n\n"]


Records = list[dict[str, Any]]


def sink_into(records: Records) -> Callable[[Judgement, Answer], None]:
    return lambda judgement, answer: records.append(record(judgement, answer))


def body(model: str = "m") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was given."""
    message = await receive()
    outcome = scope["state"]["sluice"].outcome
    told = {
        "body": message["body"].decode(), "more": message["more_body"], "action": str(outcome.action),
        "reference": outcome.reference, "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
    }  # fmt: skip
    data = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": data[:5], "more_body": True})
    await send({"type": "http.response.body", "body": data[5:]})


async def chat(request: Request) -> Response:
    asked = await request.json()

    async def events() -> AsyncIterator[bytes]:
        for event in EVENTS:
            yield event
            if asked["model"] == "stuck" and event is EVENTS[1]:
                await asyncio.sleep(60)

    return StreamingResponse(events(), media_type="text/event-stream")


async def health(request: Request) -> Response:
    return JSONResponse({"asked": (await request.body()).decode()})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    raise FileNotFoundError("a file of the app's own")


async def failing_late(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("broke")


def starlette_app() -> Starlette:
    return Starlette(routes=[Route(CHAT, chat, methods=["POST"]), Route("/healthz", health, methods=["GET", "POST"])])


@pytest.fixture
def records() -> Records:
    return []


@pytest.fixture
def guarded(records: Records, tmp_path: Path) -> Callable[..., PolicyMiddleware]:
    """Put the test pack around an app."""
    (tmp_path / "pack.yaml").write_text(PACK)

    def around(app: Any, **more: Any) -> PolicyMiddleware:
        return PolicyMiddleware(app, policy=tmp_path / "pack.yaml", sink=sink_into(records), **more)

    return around


def call(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    async def talk() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.request(method, path, **more)

    return asyncio.run(talk())


def test_a_plain_app_is_judged_and_told(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    answer = call(
        guarded(plain_app), "POST", CHAT, json=body("tagged"), headers={"authorization": "Bearer sk-1", "sluice-tags": "x"}
    )
    told = answer.json()
    assert answer.status_code == 201
    assert (json.loads(told["body"]), told["more"], told["action"]) == (body("tagged"), False, "tag")
    assert told["headers"]["sluice-tags"] == "first-mark, second-mark"
    assert told["reference"] == records[0]["reference"]
    assert records[0]["signals"]["request.model"] == "tagged"
    assert records[0]["answer"] == {"status": 201, "end": "complete"}
    assert len(records) == 1


def test_a_stream_of_a_starlette_app(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    answer = call(guarded(starlette_app()), "POST", CHAT, json=body())
    assert answer.content == b"".join(EVENTS)
    assert records[0]["answer"]["usage"] == {"input_tokens": 3, "output_tokens": 2}
    assert records[0]["answer"]["model"] == "faulty-1"


@pytest.mark.parametrize(("path", "shape"), [(CHAT, {"error"}), ("/v1/messages", {"type", "error", "request_id"})])
def test_refusals_have_the_protocols_shape(
    path: str, shape: set[str], guarded: Callable[..., PolicyMiddleware], records: Records
) -> None:
    answer = call(guarded(plain_app), "POST", path, json=body("forbidden"))
    assert answer.status_code == 403
    assert set(answer.json()) == shape
    assert answer.json()["error"]["code"] == "not-for-you"
    assert answer.headers["sluice-reference"] == records[0]["reference"]
    assert records[0]["answer"] == {"status": 403, "end": "refused"}


def test_in_shadow_nothing_is_refused(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    answer = call(guarded(plain_app, mode=Mode.SHADOW), "POST", CHAT, json=body("forbidden"))
    assert answer.status_code == 201
    assert records[0]["outcome"] == {"action": "allow", "would": "deny"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unrecognised_routes_are_judged_and_passed(
    method: str, guarded: Callable[..., PolicyMiddleware], records: Records
) -> None:
    answer = call(guarded(starlette_app()), method, "/healthz", content=b"not json")
    assert answer.json() == {"asked": "not json"}
    assert records[0]["exchange"]["cause"] == "route-unrecognised"
    assert records[0]["outcome"]["action"] == "allow"
    assert records[0]["answer"] == {"status": 200, "end": "complete"}


def test_bodies_that_cannot_be_read_are_refused(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    answer = call(guarded(plain_app), "POST", CHAT, content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid-body")
    assert records[0]["exchange"]["cause"] == "body-malformed"


@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2"])
def test_an_absurd_length_is_no_crash(length: str, guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    """Other servers than ours may hand on what they did not check."""
    answer = call(guarded(plain_app), "POST", CHAT, content=b"", headers=[(b"content-length", length.encode("latin-1"))])
    assert answer.status_code == (413 if length.isascii() else 400)
    assert len(records) == 1


def test_a_plan_limit_holds_here_too(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    app = guarded(plain_app)
    answers = [call(app, "POST", CHAT, json=body("planned"), headers={"authorization": "Bearer sk-1"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[0].headers["ratelimit"].startswith('"trial";r=1;')
    assert int(answers[2].headers["retry-after"]) > 0
    assert records[2]["outcome"]["action"] == str(Action.THROTTLE)


def test_limits_on_unrecognised_routes_are_published(records: Records, tmp_path: Path) -> None:
    limit = "{id: all, per: [client.ip], limit: 5/hour, on_missing: skip, mode: enforce}"
    (tmp_path / "pack.yaml").write_text(f"pack: p\nversion: 1\nlanguage: 1\nlimits: [{limit}]\n")
    answer = call(PolicyMiddleware(starlette_app(), policy=tmp_path / "pack.yaml", sink=sink_into(records)), "GET", "/healthz")
    assert answer.headers["ratelimit-policy"] == '"all";q=5;w=3600'
    assert answer.headers["ratelimit"].startswith('"all";r=4;')


def test_an_app_that_fails_settles_the_record_and_is_heard(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    with pytest.raises(FileNotFoundError, match="of the app's own"):
        call(guarded(failing), "POST", CHAT, json=body())
    with pytest.raises(RuntimeError, match="broke"):
        call(guarded(failing_late), "POST", CHAT, json=body())
    assert [entry["answer"] for entry in records] == [
        {"end": "upstream-failed"},
        {"status": 200, "end": "upstream-cut", "size": 4},
    ]


def test_an_app_that_stops_half_way_is_recorded_as_cut(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    drive(guarded(half), [{"type": "http.request", "body": json.dumps(body()).encode()}])
    assert records[0]["answer"] == {"status": 200, "end": "upstream-cut"}


def drive(app: Any, messages: list[dict[str, Any]], send: Callable[[Any], Awaitable[None]] | None = None) -> list[Any]:
    """Call an app by hand with these messages; returns what it sent."""
    sent: list[Any] = []
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting, {"type": "http.disconnect"})

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "http_version": "1.1", "query_string": b""}
    asyncio.run(app(scope, receive, send or keep))
    return sent


def test_a_client_that_goes_away_is_recorded_so(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    """Told by a message, as the app sees it; or by an error of the server's send."""
    asked = {"type": "http.request", "body": json.dumps(body("stuck")).encode()}
    drive(guarded(starlette_app()), [asked])

    async def gone(message: Any) -> None:
        raise OSError("client is gone")

    with pytest.raises(OSError, match="client is gone"):
        drive(guarded(plain_app), [asked], gone)
    assert [entry["answer"]["end"] for entry in records] == ["client-gone", "client-gone"]


def test_a_disconnect_after_the_whole_answer_changes_nothing(
    guarded: Callable[..., PolicyMiddleware], records: Records
) -> None:
    async def curious(scope: Any, receive: Any, send: Any) -> None:
        await plain_app(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    drive(guarded(curious), [{"type": "http.request", "body": json.dumps(body()).encode()}])
    assert records[0]["answer"]["end"] == "complete"


def test_a_client_that_leaves_while_sending_is_not_judged(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    assert drive(guarded(plain_app), [{"type": "http.request", "body": b"{", "more_body": True}]) == []
    assert records == []


def test_other_scopes_pass_through(guarded: Callable[..., PolicyMiddleware], records: Records) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send(await receive())

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        seen.append(message)

    scope = {"type": "lifespan"}
    asyncio.run(guarded(app)(scope, receive, send))
    assert seen[0] is scope
    assert seen[1:] == [{"type": "lifespan.startup"}]
    assert records == []


def test_under_uvicorn(guarded: Callable[..., PolicyMiddleware], records: Records, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(guarded(starlette_app()), port=port, log_level="warning", ws="none", loop="asyncio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False) as client:
            assert client.post(CHAT, json=body()).content == b"".join(EVENTS)
            assert client.post(CHAT, json=body("forbidden")).status_code == 403
            assert client.get("/healthz").json() == {"asked": ""}
            with client.stream("POST", CHAT, json=body("stuck")) as answer:
                assert next(answer.iter_raw()).startswith(b"data:")
            while len(records) < 4 and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
    assert [entry["answer"]["end"] for entry in records] == ["complete", "refused", "complete", "client-gone"]
    assert records[0]["signals"]["request.model"] == "m"
    assert "Traceback" not in capfd.readouterr().err
