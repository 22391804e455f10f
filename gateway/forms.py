"""Multipart forms (RFC 7578), read strictly: what two readers could take apart differently is refused.

Lines end with CR LF; no preamble, no epilogue; the boundary stands nowhere but where it parts, by whatever line end one may
look for it; no header folded over lines, one Content-Disposition a part, no field twice (but for lists, whose names end in
`[]`), names without escapes and in no extended spelling (`name*`), nothing encoded once more, no text but UTF-8. No part is
looked into; a file is its bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.protocol import Unreadable

MOST_PARTS: Final = 256
LONGEST_HEAD: Final = 4_096
# RFC 2046 §5.1.1 has more characters, some of which are read differently where they stand without quotes.
_KIND: Final = re.compile(
    r"""multipart/form-data(?:[ \t]*;[ \t]*(?:boundary=(?:"(?P<quoted>[\w'()+,./:=?-]{1,70})"|(?P<bare>[\w'+.-]{1,70}))"""
    r"""|charset="?(?:utf-8|us-ascii)"?))*[ \t]*;?[ \t]*""",
    re.IGNORECASE | re.ASCII,
)
_LINE: Final = re.compile(rb"([A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_DISPOSITION: Final = re.compile(rb'(?i:form-data)((?:; *[a-z]+=(?:"[^"\\]*"|[^\s;"\\]+))*)')
_PARAMETER: Final = re.compile(rb'; *([a-z]+)=(?:"([^"]*)"|([^\s;"]+))')
_TEXT: Final = re.compile(rb'(?:text/plain|application/json)(?:[ \t]*;[ \t]*charset="?(?:utf-8|us-ascii)"?)?', re.IGNORECASE)
_AS_IT_IS: Final = (b"binary", b"8bit", b"7bit")


@dataclass(frozen=True, slots=True)
class File:
    """A file in a form, whatever it is called."""

    data: bytes = field(repr=False)


def read_form(kind: str, raw: bytes) -> dict[str, Any]:
    """The fields of a form by name: texts, and `File`s; lists of them for names that end in `[]`. Raises Unreadable.

    kind: the value of Content-Type, which holds the boundary.
    """
    found = _KIND.fullmatch(kind.strip(" \t"))
    if found is None or kind.lower().count("boundary=") != 1:
        raise Unreadable("its type must name one boundary, of plain characters, and no character set but UTF-8")
    mark = b"--" + (found["quoted"] or found["bare"]).encode()
    parts = (b"\r\n" + raw).split(b"\r\n" + mark, MOST_PARTS + 2)
    if len(parts) > MOST_PARTS + 2:
        raise Unreadable(f"it has more than {MOST_PARTS} parts")
    if parts[0] or len(parts) < 2 or parts[-1] not in (b"--", b"--\r\n"):
        raise Unreadable("it must begin with its boundary, and end with it")
    if raw.count(mark) != len(parts) - 1:
        raise Unreadable("its boundary stands inside a part, or on lines that do not end with CR LF")
    fields: dict[str, Any] = {}
    for place, part in enumerate(parts[1:-1]):
        name, value = _part(part, place)
        if name.endswith("[]"):
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise Unreadable(f"the field '{name[:80]}' stands twice")
        else:
            fields[name] = value
    return fields


def _part(part: bytes, place: int) -> tuple[str, str | File]:
    head, blank, body = part.partition(b"\r\n\r\n")
    if not head.startswith(b"\r\n") or not blank or len(head) > LONGEST_HEAD:
        raise Unreadable(f"part {place} must be header lines, an empty line and a body")
    lines = [_LINE.fullmatch(line) for line in head[2:].split(b"\r\n")]
    headers = {line[1].lower(): line[2].strip() for line in lines if line}
    if len(headers) != len(lines):
        raise Unreadable(f"part {place} has a broken header line, or one twice")
    said = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
    pairs = [(name, quoted or bare) for name, quoted, bare in _PARAMETER.findall(said[1])] if said else []
    parameters = dict(pairs)
    name = parameters.get(b"name", b"")
    if len(parameters) != len(pairs) or not name or name != name.strip():
        raise Unreadable(f"part {place} must have one Content-Disposition with a name, no escapes, and no filename*")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _AS_IT_IS:
        raise Unreadable(f"part {place} must not be encoded once more")
    kind = headers.get(b"content-type", b"text/plain")
    if b"filename" in parameters:
        if kind.lower().startswith(b"multipart/"):
            raise Unreadable(f"part {place} must not be made of parts")
        return _text(name, place), File(body)
    if name == b"_charset_" or not _TEXT.fullmatch(kind):
        raise Unreadable(f"part {place} must be plain UTF-8, or a file")
    return _text(name, place), _text(body, place)


def _text(raw: bytes, place: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"part {place} is neither a file nor UTF-8") from None
