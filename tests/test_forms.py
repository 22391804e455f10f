"""Forms, beside a reader that many servers have: what we accept, it reads the same way; what is ambiguous, we refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from gateway.forms import File, read_form
from gateway.protocol import Unreadable

TYPE = "multipart/form-data; boundary=B"
PART = b'--B\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
END = b"--B--\r\n"
FILE = PART % (b"file", b'; filename="a"', b"x")
MODEL = PART % (b"model", b"", b"cheap")


def theirs(kind: str, raw: bytes) -> dict[str, Any]:
    """What starlette and python-multipart read: the last of several of one name, as an app that asks for one gets it."""

    async def body() -> AsyncGenerator[bytes, None]:
        yield raw

    async def parse() -> dict[str, Any]:
        form = await MultiPartParser(Headers({"content-type": kind}), body()).parse()
        found: dict[str, Any] = {}
        for name, value in form.multi_items():
            value = File(await value.read()) if isinstance(value, UploadFile) else value
            if name.endswith("[]"):
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
        await form.close()
        return found

    return asyncio.run(parse())


AMBIGUOUS = {
    "lines that end with LF": FILE.replace(b"x\r\n", b"x\n") + MODEL + END,
    "a boundary on a line that ends with LF": FILE.replace(
        b"x\r\n", b"x\n--B\nContent-Disposition: form-data; name=model\n\n1\r\n"
    )
    + END,
    "a boundary on a line that ends with CR": FILE.replace(b"x\r\n", b"x\r--B\r\r1\r\n") + END,
    "a boundary inside a line": FILE.replace(b"x\r\n", b"x--B\r\n") + END,
    "a longer boundary": FILE.replace(b"x\r\n", b"x\r\n--Bigger\r\n") + END,
    "a padded boundary": FILE.replace(b"--B\r\n", b"--B \r\n") + END,
    "heads that end with LF": FILE.replace(b"\r\n\r\n", b"\n\n") + END,
    "no final boundary": FILE + MODEL,
    "half a final boundary": FILE + b"--B-",
    "a preamble": b"--Z\r\n" + FILE + END,
    "an empty line before": b"\r\n" + FILE + END,
    "an epilogue": FILE + END + MODEL,
    "a second end": FILE + END + END,
    "a folded header": FILE.replace(b"; filename", b";\r\n filename") + END,
    "a line feed in a header": FILE.replace(b"; filename", b";\n filename") + END,
    "another line end in a header": FILE.replace(b'"a"', b'"a\x0bname=model"') + END,
    "an extended name": MODEL.replace(b'"model"', b"\"note\"; name*=UTF-8''model") + END,
    "an extended filename alone": MODEL.replace(b'"model"', b"\"model\"; filename*=UTF-8''a") + END,
    "a numbered name": MODEL.replace(b'"model"', b'"note"; name*0=model') + END,
    "a capital name": MODEL.replace(b"name=", b"Name=") + END,
    "a padded name": MODEL.replace(b'"model"', b'" model"') + END,
    "another character set": MODEL.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n") + END,
    "a character set for all": PART % (b"_charset_", b"", b"utf-16") + MODEL + END,
    "parts of parts": FILE.replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n") + END,
}
KINDS = [
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    "multipart/form-data; boundary=B; boundary=C",
    "multipart/form-data; boundary=B; boundary*=utf-8''C",
    "multipart/form-data; boundary*0=B",
    'multipart/form-data; x="; boundary=C"; boundary=B',
    "multipart/form-data; boundary=B; charset=utf-16",
    "multipart/form-data, multipart/form-data; boundary=B",
    'multipart/form-data; boundary="B',
    'multipart/form-data; boundary="B "',
    "multipart/form-data; boundary=B C",
    "multipart/form-data boundary=B",
    "multipart/form-data; boundary=" + 71 * "B",
]


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_two_readers_could_take_apart_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read_form(TYPE, raw)


@pytest.mark.parametrize("kind", KINDS)
def test_a_boundary_that_is_in_doubt_is_none(kind: str) -> None:
    with pytest.raises(Unreadable, match="one boundary"):
        read_form(kind, FILE + END)


@pytest.mark.parametrize(
    "kind", [TYPE, 'multipart/form-data; boundary="B"', "Multipart/Form-Data;boundary=B", TYPE + "; charset=UTF-8"]
)
def test_a_boundary_may_be_written_in_several_ways(kind: str) -> None:
    assert read_form(kind, FILE + MODEL + END) == theirs(kind, FILE + MODEL + END) == {"file": File(b"x"), "model": "cheap"}


@pytest.mark.parametrize(
    "boundary", ["----WebKitFormBoundary7MA4YWxkTrZu0gW", "0f4c-9a", "=_Part_1.2", "a'b(c)d+e_f,g-h.i/j:k=l?m"]
)
def test_boundaries_of_real_clients(boundary: str) -> None:
    kind = f'multipart/form-data; boundary="{boundary}"'
    raw = (FILE + MODEL + END).replace(b"--B", b"--" + boundary.encode())
    assert read_form(kind, raw) == theirs(kind, raw) == {"file": File(b"x"), "model": "cheap"}


SNIPPETS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"--B",
        b"--B--",
        b"--",
        b"B",
        b"\r\n--B\r\n",
        b"\n--B\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b'"',
        b"; ",
        b"=",
        b"name=",
        b'; name="other"',
        b'; filename="f"',
        b"; filename*=UTF-8''f",
        b"Content-Type: text/plain\r\n",
        b"X: y\r\n",
        b"\x00",
        b"\x0b",
        b"\xff",
        b"\\",
        b":",
        MODEL,
        FILE,
        END,
    ]
)
EDITS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 8), SNIPPETS | st.just(b"")), min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(EDITS, st.sampled_from([TYPE, 'multipart/form-data; boundary="B"']))
def test_what_is_accepted_is_read_alike(edits: list[tuple[int, int, bytes]], kind: str) -> None:
    raw = FILE + PART % (b"purpose", b"", b"batch") + MODEL + END
    for place, cut, put in edits:
        raw = raw[:place] + put + raw[place + cut :]
    try:
        ours = read_form(kind, raw)
    except Unreadable:
        return
    assert ours == theirs(kind, raw)
