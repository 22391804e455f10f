"""Large bodies are read aside: while one is, everybody else is served. Both hosts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
HEADERS = {"authorization": f"Bearer {KEY}"}
LINE = json.dumps({
    "custom_id": "x", "method": "POST", "url": CHAT,
    "body": {"model": "m", "messages": [{"role": "user", "content": "a few words of it"}]},
}).encode()  # fmt: skip
ENTRIES = 60_000
MEANWHILE = 20  # were a batch read in place, one request would wait behind it, after the few that came with its last bytes


def batch(lines: bytes) -> bytes:
    head = b'--B\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    return head % (b"purpose", b"", b"batch") + head % (b"file", b'; filename="b.jsonl"', lines) + b"--B--\r\n"


def test_others_are_served_while_a_batch_is_read(host: str, tmp_path: Path, client: httpx.Client) -> None:
    """In one batch the last of 60,000 lines is broken, which shows that every line was read; the other goes on whole."""
    keeping, kind = Keeping(), {**HEADERS, "content-type": "multipart/form-data; boundary=B"}
    good, bad = batch(b"\n".join([LINE] * ENTRIES)), batch(b"\n".join([LINE] * ENTRIES) + b"\n{")
    with gateway(tmp_path, f"upstreams: {{openai: {{url: {keeping.url}}}}}\n", PACK, host) as running:
        client.post(running.url + CHAT, content=GOOD, headers=HEADERS)
        answers: list[httpx.Response] = []
        sent = threading.Event()

        def upload(body: bytes) -> None:
            def sending() -> Iterator[bytes]:
                yield body
                sent.set()

            length = {**kind, "content-length": str(len(body))}
            answers.append(httpx.post(f"{running.url}/v1/files", content=sending(), headers=length, timeout=60))

        for body in (bad, good):
            sender = threading.Thread(target=upload, args=(body,))
            sent.clear()
            sender.start()
            served = 0
            while sender.is_alive():
                since = sent.is_set()
                assert client.post(running.url + CHAT, content=GOOD, headers=HEADERS).content == BODY
                served += since
            sender.join()
            assert served > MEANWHILE
        running.check()
    refused, passed = answers
    assert (refused.status_code, f"line {ENTRIES + 1}" in refused.text) == (400, True)
    assert (passed.status_code, passed.content) == (200, BODY)
    assert good in [got.body for got in keeping.got]
    keeping.close()
