"""Spans on their way to endpoints that stall, refuse, take a part, or are not there: bounded, counted, and nobody waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import pytest
import trustme

from gateway.audit import delivery as delivery_module
from gateway.audit.delivery import Answer, Delivery, Endpoint
from gateway.audit.otlp import Kind, Pairs, Place, request, request_of, span
from gateway.audit.senders import TRACES, sender_of
from gateway.values import SECOND
from tests.collector import Collector, collector, grpc_collector

BEGINNING = request_of({"service.name": "s"}, "scope", "1")


def spans(count: int, name: str = "n") -> list[bytes]:
    return [span(Place(1, number + 1), name, Kind.SERVER, (1, 2), Pairs()) for number in range(count)]


def to(endpoint: Endpoint) -> Delivery:
    return Delivery(sender_of(endpoint, TRACES, partial(request, BEGINNING)), gathering=0.02, first_pause=0.02)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def counts(delivery: Delivery) -> tuple[object, ...]:
    health = delivery.health()
    return health["made"], health["exported"], health["lost"], health["waiting"]


@pytest.fixture(params=[collector, grpc_collector], ids=["http", "grpc"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Collector]:
    listening: AbstractContextManager[Collector] = request.param()
    with listening as found:
        yield found


def test_spans_arrive_with_headers(endpoint: Collector) -> None:
    delivery = to(Endpoint(endpoint.url, {"authorization": "Bearer t", "X-Tenant": "one"}))
    delivery.put(spans(1_300))
    delivery.close()
    assert len(endpoint.spans()) == 1_300
    assert {(one["authorization"], one["x-tenant"]) for one in endpoint.headers} == {("Bearer t", "one")}
    assert [len(one.resource_spans[0].scope_spans[0].spans) for one in endpoint.requests] == [512, 512, 276]
    assert counts(delivery) == (1_300, 1_300, 0, 0)
    assert delivery.health()["problem"] == ""


def test_compressed_requests_are_smaller_and_read_alike() -> None:
    with collector() as endpoint:
        for packed in (False, True):
            with closing(to(Endpoint(endpoint.url, gzip=packed))) as delivery:
                delivery.put(spans(200))
    assert len(endpoint.spans()) == 400
    assert endpoint.sizes[1] < endpoint.sizes[0] / 3
    assert endpoint.headers[1]["content-encoding"] == "gzip"
    with grpc_collector() as endpoint, closing(to(Endpoint(endpoint.url, gzip=True))) as delivery:
        delivery.put(spans(200))
    assert len(endpoint.spans()) == 200


def test_a_base_url_means_the_usual_path() -> None:
    with collector() as endpoint, closing(to(Endpoint(endpoint.url.removesuffix("/v1/traces")))) as delivery:
        delivery.put(spans(1))
    assert len(endpoint.spans()) == 1


def test_what_is_refused_is_lost_and_said(endpoint: Collector) -> None:
    endpoint.status = 400
    delivery = to(Endpoint(endpoint.url))
    delivery.put(spans(5))
    until(lambda: delivery.lost == 5)
    assert "5 spans lost" in str(delivery.health()["problem"])
    endpoint.status = 200
    delivery.put(spans(2))
    delivery.close()
    assert counts(delivery) == (7, 2, 5, 0)
    assert delivery.health()["problem"] == "", "an endpoint that takes them again is well again"


def test_what_is_to_come_later_comes_later(endpoint: Collector) -> None:
    endpoint.status, endpoint.refusals = 503, 2
    delivery = to(Endpoint(endpoint.url))
    delivery.put(spans(5))
    until(lambda: delivery.exported == 5)
    delivery.close()
    assert counts(delivery) == (5, 5, 0, 0)
    assert len(endpoint.headers) == 3


def test_an_endpoint_that_is_asked_too_often_is_asked_no_more(endpoint: Collector) -> None:
    endpoint.status = 503
    delivery = to(Endpoint(endpoint.url))
    delivery.put(spans(5))
    until(lambda: delivery.lost == 5)
    delivery.close()
    assert len(endpoint.headers) == delivery_module.MOST_TRIES


def test_retry_after_is_heeded() -> None:
    with collector() as endpoint:
        endpoint.status, endpoint.refusals, endpoint.retry_after = 429, 1, "1"
        delivery, began = to(Endpoint(endpoint.url)), time.monotonic()
        delivery.put(spans(1))
        until(lambda: delivery.exported == 1)
        delivery.close()
    assert time.monotonic() - began >= 1


def test_a_part_that_is_not_taken_is_lost(endpoint: Collector) -> None:
    endpoint.rejected = 2
    with closing(to(Endpoint(endpoint.url))) as delivery:
        delivery.put(spans(5))
    assert counts(delivery) == (5, 3, 2, 0)
    assert "too old" in str(delivery.health()["problem"])


def test_nobody_waits_for_an_endpoint_that_stalls(endpoint: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "DEPTH", 1_000)
    endpoint.stalled.set()
    delivery = to(Endpoint(endpoint.url, timeout=SECOND // 5))
    delivery.put(spans(10))
    until(lambda: bool(endpoint.headers))
    began = time.process_time(), time.monotonic()
    for _ in range(50):
        delivery.put(spans(100))
    assert time.monotonic() - began[1] < 1
    assert delivery.lost >= 3_900
    assert len(delivery._waiting) <= 1_000
    until(lambda: "answer" in str(delivery.health()["problem"]))
    endpoint.stalled.clear()
    endpoint.let_go.set()
    delivery.close()
    made, exported, lost, waiting = counts(delivery)
    assert (made, waiting) == (5_010, 0)
    assert exported == 5_010 - delivery.lost > 0
    assert lost == delivery.lost


def test_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "MOST_BYTES", 10_000)
    with collector() as endpoint:
        endpoint.stalled.set()
        delivery = to(Endpoint(endpoint.url, timeout=SECOND // 10))
        for _ in range(1_000):
            delivery.put(spans(1, "x" * 200))
        assert sum(map(len, delivery._waiting)) <= 10_000
        assert delivery.lost > 900
        endpoint.let_go.set()
        delivery.close()


def test_the_end_does_not_wait_for_a_dead_endpoint(endpoint: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "LAST", -0.5)
    endpoint.stalled.set()
    delivery = to(Endpoint(endpoint.url, timeout=10 * SECOND))
    delivery.put(spans(600))
    until(lambda: bool(endpoint.headers))
    began = time.monotonic()
    delivery.close()
    assert time.monotonic() - began < 3
    assert counts(delivery) == (600, 0, 600, 0)
    endpoint.let_go.set()
    delivery._thread.join(5)
    assert counts(delivery) == (600, 0, 600, 0), "what comes of it later counts no more"


def test_an_endpoint_that_is_not_there_costs_the_spans_only(unused: int) -> None:
    for scheme in ("http", "grpc"):
        delivery = to(Endpoint(f"{scheme}://127.0.0.1:{unused}", timeout=SECOND // 5))
        delivery.put(spans(3))
        until(lambda delivery=delivery: bool(delivery.problem))  # type: ignore[misc]
        delivery.close()
        assert counts(delivery) == (3, 0, 3, 0)


def test_a_sender_that_breaks_costs_the_spans_only() -> None:
    class Broken:
        where = "nowhere"

        def send(self, spans: object) -> Answer:
            raise RuntimeError("with a secret in it")

        def close(self) -> None:
            pass

    delivery = Delivery(Broken(), gathering=0.01)
    delivery.put(spans(3))
    until(lambda: delivery.lost == 3)
    delivery.close()
    assert delivery.problem == "nowhere: RuntimeError; 3 spans lost"


@pytest.fixture
def unused() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_grpc_over_tls_believes_the_authority_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with grpc_collector((tmp_path / "key.pem", tmp_path / "chain.pem")) as endpoint:
        with closing(to(Endpoint(endpoint.url, ca_file=tmp_path / "ca.pem"))) as delivery:
            delivery.put(spans(2))
        with closing(to(Endpoint(endpoint.url, timeout=SECOND // 5))) as doubtful:
            doubtful.put(spans(2))
    assert counts(delivery) == (2, 2, 0, 0)
    assert counts(doubtful) == (2, 0, 2, 0)
