"""What bytes and header order say of the software that wrote them, whatever it calls itself.

Pure functions of what was sent: no settings, no state, no claims (those are `client`'s). Every search is one pass over a
bounded window, and what a pattern finds inside a text of the prompt does not count: a quote in a JSON text is escaped, so
`"role"` in the bytes is always a key or a whole value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import Final

HEAD: Final = 16_384
TAIL: Final = 8_192
MOST_ESCAPES: Final = 8
MOST_NAMES: Final = 64
LEAST_SORTED: Final = 4
Headers = Sequence[tuple[str, str]]


class Style(StrEnum):
    """One trait of how a body was serialised."""

    SPACED = "spaced"
    COMPACT = "compact"
    MIXED_SEPARATORS = "mixed-separators"
    KEYS_SORTED = "keys-sorted"
    CONTENT_BEFORE_ROLE = "content-before-role"
    HTML_ESCAPES = "html-escapes"
    ASCII_ESCAPES = "ascii-escapes"
    UPPER_ESCAPES = "upper-escapes"
    SLASH_ESCAPES = "slash-escapes"
    RAW_UTF8 = "raw-utf8"
    WHOLE_FLOATS = "whole-floats"
    TRAILING_NEWLINE = "trailing-newline"


class Runtime(StrEnum):
    """What runs the client."""

    PYTHON = "python"
    NODE = "node"
    BUN = "bun"
    DENO = "deno"
    BROWSER = "browser"
    GO = "go"
    RUST = "rust"
    JAVA = "java"
    DOTNET = "dotnet"
    PHP = "php"
    RUBY = "ruby"
    CURL = "curl"


_FIRST_KEY: Final = re.compile(rb'\s*\{(\s*)"(?:[^"\\]|\\.){0,200}"\s*:([ ]?)')
_ESCAPE: Final = re.compile(rb"\\(?=u)u(?:(?!00[0-7]|[dD][89a-fA-F])[0-9a-fA-F]{4}|00(?:3[cCeE]|26|27|2[bB]))")
_BEGIN: Final = re.compile(rb"\\(?=u)")  # one byte is looked for four times as fast as two
_UPPER: Final = re.compile(rb"[A-F]")
_HTML: Final = frozenset({b"\\u003c", b"\\u003e", b"\\u0026"})
_HTML_UPPER: Final = frozenset({b"\\u003C", b"\\u003E"})
_FLOATS: Final = ("temperature", "top_p")
_TALK: Final = ("messages", "input", "prompt")
_WHOLE: Final = re.compile(rb"\s*:\s*-?\d+\.0\s*[,}\]]")


def json_style(raw: bytes, keys: tuple[str, ...]) -> frozenset[Style]:
    """How a body was serialised, from its first 16 KiB and its last 8. keys: its top-level keys in order."""
    seen = {Style.KEYS_SORTED} if is_sorted(keys) else set()
    outer = _FIRST_KEY.match(raw)
    inner = _after(raw, b'"role"')
    if outer and b"\n" not in outer[1]:
        seen.add(Style.SPACED if outer[2] == b" " else Style.COMPACT)
        if inner is not None and inner != (outer[2] == b" "):
            seen.add(Style.MIXED_SEPARATORS)
    for start, end in ((0, HEAD), (max(HEAD, len(raw) - TAIL), len(raw))):
        if start < len(raw):
            _escapes(raw, start, end, seen)
    if _content_first(raw):
        seen.add(Style.CONTENT_BEFORE_ROLE)
    if any(_whole(raw, key) for key in _FLOATS if key in keys):
        seen.add(Style.WHOLE_FLOATS)
    if raw.endswith(b"\n"):
        seen.add(Style.TRAILING_NEWLINE)
    return frozenset(seen)


def is_sorted(keys: Sequence[str]) -> bool:
    """Whether four or more keys stand in alphabetical order."""
    return len(keys) >= LEAST_SORTED and list(keys) == sorted(keys)


def _after(raw: bytes, key: bytes) -> bool | None:
    """Whether a blank follows the colon of the first such key; None where there is none, or where lines are broken."""
    at = raw.find(key, 0, HEAD)
    behind = raw[at + len(key) : at + len(key) + 3] if at >= 0 else b""
    return behind[1:2] == b" " if behind[:1] == b":" and behind[1:2] not in (b"\n", b"\r") else None


def _whole(raw: bytes, key: str) -> bool:
    """Whether a top-level number is written as 1.0: it stands near one of the body's ends."""
    quoted = f'"{key}"'.encode()
    at = raw.find(quoted, 0, HEAD)
    if at < 0:
        at = raw.rfind(quoted, max(0, len(raw) - TAIL))
    return at >= 0 and _WHOLE.match(raw, at + len(quoted)) is not None


def _escapes(raw: bytes, start: int, end: int, seen: set[Style]) -> None:
    """Add the escapes that a serialiser chose to write: not those that JSON demands, and not a backslash of the text itself."""
    if not raw[start:end].isascii():
        seen.add(Style.RAW_UTF8)
    slash = raw.find(b"/", start, end)  # who escapes one slash escapes the first
    if slash > 0 and raw[slash - 1 : slash] == b"\\" and _odd(raw, slash - 1):
        seen.add(Style.SLASH_ESCAPES)
    begin = _BEGIN.search(raw, start, end)
    if begin is None:
        return
    for match in islice(_ESCAPE.finditer(raw, begin.start(), end), MOST_ESCAPES):
        written = match[0]
        if not _odd(raw, match.start()):
            continue
        if written in _HTML:
            seen.add(Style.HTML_ESCAPES)
        elif written in _HTML_UPPER or _UPPER.search(written):
            seen.add(Style.UPPER_ESCAPES)
        elif not written.startswith(b"\\u00") or written[4:5] in b"89abcdef":
            seen.add(Style.ASCII_ESCAPES)


def _odd(raw: bytes, at: int) -> bool:
    """Whether the backslash at a place begins an escape: an even number of them stands before it."""
    if raw[at - 1 : at] != b"\\":
        return True
    before = raw[max(0, at - 256) : at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def _content_first(raw: bytes) -> bool:
    """Whether the first message states its content before its role."""
    messages = raw.find(b'"messages"', 0, HEAD)
    content = raw.find(b'"content"', messages, messages + HEAD) if messages >= 0 else -1
    if content < 0 or raw[max(0, content - 64) : content].rstrip()[-1:] != b"{":
        return False
    role = raw.find(b'"role"', messages, content)
    return role < 0


def key_order(keys: tuple[str, ...]) -> str | None:
    """Where `stream` stands to the conversation, or `model` where it does not stream: one of four words.

    One program shows one of the first pair and one of the second, whatever its options; three of the four are two programs.
    None where the body lacks what is compared.
    """
    talk = next((name for name in _TALK if name in keys), None)
    one = "stream" if "stream" in keys else "model"
    if talk is None or one not in keys:
        return None
    return f"{one}-first" if keys.index(one) < keys.index(talk) else f"{one}-later"


def transport(headers: Headers) -> Runtime | None:
    """The runtime whose HTTP library writes such headers, from their names, order and defaults; None where that is not clear.

    Go writes Host, User-Agent and Content-Length, then all others sorted; fetch in Node sends `sec-fetch-mode` without the
    rest of its family, which browsers send; axios offers `compress`; requests writes User-Agent first and offers `*/*`
    between its encodings and the connection.
    """
    values = dict(reversed(headers[:MOST_NAMES]))
    if values.get("sec-fetch-mode") == "cors":
        return Runtime.BROWSER if "sec-fetch-site" in values else Runtime.NODE
    if "compress" in values.get("accept-encoding", "") and "text/plain, */*" in values.get("accept", ""):
        return Runtime.NODE
    names = [name for name, _ in headers[:MOST_NAMES]]
    if names[:1] == ["host"]:
        names = names[1:]
    if names[:2] == ["user-agent", "content-length"]:
        rest = [name for name in names[2:] if name not in ("accept-encoding", "connection", "transfer-encoding")]
        return Runtime.GO if len(rest) >= LEAST_SORTED and rest == sorted(rest) else None
    return Runtime.PYTHON if names[:4] == ["user-agent", "accept-encoding", "accept", "connection"] else None


def serialiser(style: frozenset[str]) -> Runtime | None:
    """The runtime whose JSON library writes such bodies by default; None where several do."""
    if Style.HTML_ESCAPES in style:
        return Runtime.GO
    if Style.UPPER_ESCAPES in style:
        return Runtime.DOTNET
    if Style.SLASH_ESCAPES in style:
        return Runtime.PHP
    if Style.SPACED in style and Style.MIXED_SEPARATORS not in style:
        return Runtime.PYTHON
    return None
