"""Multipart forms (RFC 7578), read strictly: what two readers could take apart differently is refused.

No preamble, no epilogue, one Content-Disposition a part, no field twice (but for lists, whose names end in `[]`), names
without escapes, nothing encoded once more. No part is looked into; a file is its bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.protocol import Unreadable

MOST_PARTS: Final = 256
LONGEST_HEAD: Final = 4_096
_BOUNDARY: Final = re.compile(r""";\s*boundary=(?:"([^"\\]{1,70})"|([^\s;,"\\]{1,70}))\s*(?=;|$)""", re.IGNORECASE)
_LINE: Final = re.compile(rb"([A-Za-z-]+):[ \t]*([^\r\n]*)")
_DISPOSITION: Final = re.compile(rb'form-data((?:; *[a-z*]+=(?:"[^"\\\r\n]*"|[^\s;"\\]+))*)', re.IGNORECASE)
_PARAMETER: Final = re.compile(rb'; *([a-z*]+)=(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_AS_IT_IS: Final = (b"binary", b"8bit", b"7bit")


@dataclass(frozen=True, slots=True)
class File:
    """A file in a form, whatever it is called."""

    data: bytes = field(repr=False)


def read_form(kind: str, raw: bytes) -> dict[str, Any]:
    """The fields of a form by name: texts, and `File`s; lists of them for names that end in `[]`. Raises Unreadable.

    kind: the value of Content-Type, which holds the boundary.
    """
    found = _BOUNDARY.findall(kind)
    if len(found) != 1:
        raise Unreadable("its type must name one boundary")
    mark = b"--" + "".join(found[0]).encode("utf-8", "replace")
    parts = (b"\r\n" + raw).split(b"\r\n" + mark, MOST_PARTS + 2)
    if len(parts) > MOST_PARTS + 2:
        raise Unreadable(f"it has more than {MOST_PARTS} parts")
    if parts[0] or len(parts) < 2 or parts[-1] not in (b"--", b"--\r\n"):
        raise Unreadable("it must begin with its boundary, and end with it")
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
    pairs = [(name.lower(), quoted or bare) for name, quoted, bare in _PARAMETER.findall(said[1])] if said else []
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or not parameters.get(b"name") or b"name*" in parameters:
        raise Unreadable(f"part {place} must have one Content-Disposition with a name, and no escapes in it")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _AS_IT_IS:
        raise Unreadable(f"part {place} must not be encoded once more")
    name = _text(parameters[b"name"], place)
    return name, File(body) if parameters.keys() & {b"filename", b"filename*"} else _text(body, place)


def _text(raw: bytes, place: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"part {place} is neither a file nor UTF-8") from None
