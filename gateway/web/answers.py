"""Error answers: in the protocol's own shape, or as RFC 9457 problem details where no protocol is known."""

from __future__ import annotations

import json

from gateway.decision import Public
from gateway.protocol import Dialect

REFERENCE_HEADER = b"sluice-reference"


def error_answer(
    dialect: Dialect | None, status: int, public: Public, reference: str
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an error answer; the reference opens the evidence (`sluice explain`)."""
    if dialect is not None:
        kind, body = b"application/json", dialect.error(status, public, reference)
    else:
        kind = b"application/problem+json"
        problem = {"type": f"urn:sluicegate:{public.code}", "title": public.message, "status": status, "instance": reference}
        body = json.dumps(problem).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if reference:
        headers.append((REFERENCE_HEADER, reference.encode()))
    return headers, body
