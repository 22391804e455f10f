"""`examples/traces.py` shows what a gateway sends."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from functools import partial

from gateway.audit.delivery import Delivery, Endpoint
from gateway.audit.otlp import Kind, Pairs, Place, event, pairs, request, request_of, span
from gateway.audit.senders import TRACES, sender_of
from tests.web.running import ROOT, free_port


def test_it_prints_a_trace_as_a_tree() -> None:
    port = free_port()
    running = subprocess.Popen([sys.executable, ROOT / "examples/traces.py", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        match = event("security_rule.match", 1, pairs([("security_rule.name", "demo.[rule]")]))
        spans = [
            span(Place(1, 10), "POST /v1/chat/completions", Kind.SERVER, (0, 9_000_000), pairs([("url.path", "/v1")])),
            span(Place(1, 11, 10), "sluice.judge", Kind.INTERNAL, (0, 1_000_000), Pairs(), [match]),
        ]
        beginning, to = request_of({"service.name": "s"}, "scope", "1"), Endpoint(f"http://127.0.0.1:{port}")
        with closing(Delivery(sender_of(to, TRACES, partial(request, beginning)), 0.02, 0.1)) as delivery:
            delivery.put(spans)
            end = time.monotonic() + 15
            while not delivery.exported:
                assert time.monotonic() < end, delivery.health()
                time.sleep(0.02)
    finally:
        running.terminate()
        printed = running.communicate()[0]
    lines = [line.lstrip("│├└─ ") for line in printed.splitlines()]
    assert lines == [
        "POST /v1/chat/completions server 9.00 ms", "url.path /v1", "sluice.judge internal 1.00 ms", "security_rule.match",
        "security_rule.name demo.[rule]",
    ]  # fmt: skip
