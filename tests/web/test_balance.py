"""Several upstreams of one protocol: shares by weight, who is left alone, and that only what was not sent goes elsewhere."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.breaker import AFTER
from gateway.web.balance import LONGEST, REST, Group
from gateway.web.caller import moved
from gateway.web.pool import Pool, Upstream
from tests.web.conftest import PACK
from tests.web.faulty import Faulty
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, free_port, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def group(clock: Clock, *weights: int) -> tuple[Group, list[Pool]]:
    pools = [Pool(Upstream(f"http://u{number}.example"), now=clock) for number in range(len(weights))]
    return Group(list(zip(pools, weights, strict=True))), pools


def picked(found: Group, pools: list[Pool], count: int) -> str:
    chosen = [found.pick() for _ in range(count)]
    return "".join(str(pools.index(one)) for one in chosen if one is not None)


def test_shares_are_exact_and_spread(clock: Clock) -> None:
    found, pools = group(clock, 5, 1, 1)
    assert picked(found, pools, 14) == "0010200" * 2
    found, pools = group(clock, 1, 1)
    assert picked(found, pools, 6) == "010101"


def test_who_fails_in_a_row_is_left_alone_and_longer_each_time(clock: Clock) -> None:
    found, pools = group(clock, 1, 1)
    for _ in range(AFTER - 1):
        pools[0].met("gone")
    pools[0].met("")
    for _ in range(AFTER - 1):
        pools[0].met("gone")
    assert picked(found, pools, 4) == "0101", "not in a row"
    for time in range(1, 40):
        pools[0].met("gone")
        rest = min(LONGEST, REST * time)
        clock.now += rest - 0.1
        assert picked(found, pools, 3) == "111"
        pools[0].met("gone")  # what was on its way still
        clock.now += 0.1
        assert "0" in picked(found, pools, 3)
    pools[0].met("")
    pools[0].met("gone")
    assert "0" in picked(found, pools, 3)


def test_where_all_are_out_all_are_asked(clock: Clock) -> None:
    found, pools = group(clock, 2, 1)
    for pool in pools:
        for _ in range(AFTER):
            pool.met("gone")
    assert Counter(picked(found, pools, 6)) == {"0": 4, "1": 2}
    assert [one["resting"] for one in found.health()] == [True, True]


def test_each_is_tried_once(clock: Clock) -> None:
    found, pools = group(clock, 9, 1)
    first = found.pick()
    assert first is not None
    second = found.pick([first])
    assert second is not None
    assert {first, second} == set(pools)
    assert found.pick(pools) is None


def test_a_head_goes_elsewhere_with_all_but_its_place() -> None:
    before, after = Pool(Upstream("http://a.example/openai")), Pool(Upstream("https://b.example:8443"))
    start = b"POST " + before.base + b"/v1/x?q=/openai" + before.lines
    assert moved(start + b"x: y\r\n\r\n", before, after) == (
        b"POST /v1/x?q=/openai HTTP/1.1\r\nhost: b.example:8443\r\nx: y\r\n\r\n"
    )
    assert moved(moved(start + b"\r\n", before, after), after, before) == start + b"\r\n"


@pytest.fixture
def servers() -> Iterator[list[Keeping]]:
    found = [Keeping(), Keeping()]
    yield found
    for server in found:
        server.close()


def settings(*urls: str, **more: str) -> str:
    listed = ", ".join(f"{{url: '{url}', weight: {1 + 2 * place}}}" for place, url in enumerate(urls))
    rest = "".join(f", {key}: {value}" for key, value in more.items())
    return f"upstreams: {{openai: {{url: [{listed}]{rest}}}}}\n"


def ask(url: str, client: httpx.Client, do: str = "sized", method: str = "POST") -> httpx.Response:
    if method == "GET":
        return client.get(f"{url}/v1/models?do={do}", headers=HEADERS)
    return client.post(f"{url}{CHAT}?do={do}", content=GOOD, headers=HEADERS)


def test_requests_are_shared_out_by_weight(host: str, servers: list[Keeping], tmp_path: Path, client: httpx.Client) -> None:
    with gateway(tmp_path, settings(*(one.url for one in servers)), PACK, host) as running:
        assert [ask(running.url, client).content for _ in range(12)] == [BODY] * 12
        running.check()
    assert [len(one.got) for one in servers] == [3, 9]


def test_one_that_is_not_there_costs_no_answer(host: str, servers: list[Keeping], tmp_path: Path, client: httpx.Client) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    with gateway(tmp_path, settings(servers[0].url, gone), PACK, host) as running, running.recording(12) as records:
        assert [ask(running.url, client).content for _ in range(12)] == [BODY] * 12
        health = client.get(f"{running.url}/healthz").json()
    assert len(servers[0].got) == 12
    assert {record["answer"]["end"] for record in records} == {"complete"}
    (there, away) = health["parts"]["upstreams"]["openai"]
    assert (there["resting"], away["resting"], away["failures"]) == (False, True, AFTER)
    assert [problem for problem in health["problems"] if gone in problem]


@pytest.mark.parametrize(
    ("do", "status", "code"),
    [
        ("no_answer", 502, "upstream-interrupted"),
        ("cut_json", 200, ""),
        ("odd_status", 0, ""),
        ("hang_head", 504, "upstream-timeout"),
    ],
)
def test_what_was_sent_is_not_sent_again(
    do: str, status: int, code: str, host: str, faulty: Faulty, servers: list[Keeping], tmp_path: Path
) -> None:
    """Whatever comes of it, and be it nothing, a request that reached one upstream reaches no other."""
    text = settings(servers[0].url, faulty.url, read="1s")
    with gateway(tmp_path, text, PACK, host) as running:
        before, found = len(faulty.seen), []
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
                head = f"POST {CHAT}?do={do} HTTP/1.1\r\nhost: g\r\ncontent-length: {len(GOOD)}\r\nconnection: close\r\n\r\n"
                connection.sendall(head.encode() + GOOD)
                found.append(b"".join(iter(lambda: connection.recv(65_536), b"")))
        assert len(servers[0].got) + len(faulty.seen) - before == 4
        assert len(faulty.seen) - before == 3
    failed = [answer for answer in found if BODY not in answer]
    assert len(failed) == 3
    if status:
        assert all(b" %d " % status in answer[:16] for answer in failed)
    assert all(code.encode() in answer for answer in failed)


def test_one_that_is_full_leaves_it_to_the_other(
    host: str, servers: list[Keeping], tmp_path: Path, client: httpx.Client
) -> None:
    text = settings(*(one.url for one in servers), connections="1", connect="100ms")
    with gateway(tmp_path, text, PACK, host) as running, socket.create_connection(("127.0.0.1", running.port)) as held:
        held.sendall(f"POST {CHAT}?do=slow HTTP/1.1\r\nhost: g\r\ncontent-length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
        while not servers[1].got:
            pass
        assert [ask(running.url, client).status_code for _ in range(3)] == [200] * 3
        assert held.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_time_outs_of_a_route(host: str, faulty: Faulty, tmp_path: Path, client: httpx.Client) -> None:
    text = f"upstreams: {{openai: {{url: {faulty.url}, read: 20s, routes: {{models: {{read: 400ms}}}}}}}}\n"
    with gateway(tmp_path, text, PACK, host) as running:
        answer = ask(running.url, client, "hang_head", "GET")
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream-timeout")
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{running.url}{CHAT}?do=hang_head", content=GOOD, headers=HEADERS, timeout=1.5)


def test_a_route_that_is_none_is_reported(tmp_path: Path) -> None:
    text = "upstreams: {openai: {url: 'http://127.0.0.1:1', routes: {chat.completion: {read: 1s}}}}\n"
    with (
        pytest.raises(AssertionError, match=r"protocol 'openai' has no route 'chat.completion'.*did you mean"),
        gateway(tmp_path, text, PACK),
    ):
        pass
