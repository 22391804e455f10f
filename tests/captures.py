"""Captured requests of real client software, as traffic for tests: a small excerpt of a larger corpus.

`data/captures.jsonl.gz` holds a handful of requests of each of about a hundred clients (SDKs, pipelines, harnesses, agents,
relays); all keys in it are fake.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "captures.jsonl.gz"
START = 1_793_500_000


def captures() -> list[dict[str, Any]]:
    """The excerpt, in order of time."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def sendable() -> list[dict[str, Any]]:
    """The excerpt as requests that can be sent: raw bodies, a key per client, an address and connection per client.

    One request a second, so that the order is the same however they are sent.
    """
    found = []
    clients: dict[str, int] = {}
    for number, capture in enumerate(captures()):
        name = f"{capture['client']}#{capture.get('upstream_key', '')}"
        index = clients.setdefault(capture["client"], len(clients))
        spaced = (", ", ": ") if index % 2 else (",", ":")
        body = capture["body"]
        raw = "" if body is None else json.dumps(body, ensure_ascii=index % 3 == 0, separators=spaced)
        pairs = [[header, _value(header, value, name, raw)] for header, value in capture["headers"]]
        kept = [pair for pair in pairs if pair[0].lower() not in ("transfer-encoding", "content-encoding", "expect")]
        if raw and not any(header.lower() == "content-length" for header, _ in kept):
            kept.append(["Content-Length", str(len(raw.encode()))])
        found.append({
            "ts": START + number, "method": capture["method"], "path": capture["path"], "http_version": "HTTP/1.1",
            "headers": kept, "body_raw": raw, "client_ip": f"198.51.{index % 250}.7",
            "conn": f"198.51.{index % 250}.7:{40_000 + capture['conn'] % 20_000}", "label": capture["label"],
        })  # fmt: skip
    return found


def _value(header: str, value: str, name: str, raw: str) -> str:
    low = header.lower()
    if low == "authorization":
        return f"Bearer sk-{name}"
    if low in ("x-api-key", "x-goog-api-key"):
        return f"sk-{name}"
    if low == "content-length":
        return str(len(raw.encode()))
    return "keep-alive" if low == "connection" else value
