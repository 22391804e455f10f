"""Batches: many calls handed in at once, inspected one by one, and judged as one exchange.

Every entry is read as a call of its own route, as strictly; one that cannot be read refuses the batch and is named. The
whole is one `Call` of the operation `batch`: its messages are those of all entries, its tools and models all of theirs,
`max_tokens` the largest of them, `entries` their number. Signals of one prompt look at the last message, so entries are laid
in the order of how common their beginnings are, the commonest last: what is put at the end of a file hides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gateway.facts import Call
from gateway.forms import File
from gateway.jsontext import strict_json
from gateway.plugins.protocols.reading import Document, typed
from gateway.protocol import Unreadable

MOST_ENTRIES: Final = 100_000
MOST_NAMED: Final = 256
BEGINNING: Final = 48
Readers = Callable[[Document], Call]


def batch(calls: Iterable[Call]) -> Call:
    """One call of many. Raises Unreadable where there are none, or more than `MOST_ENTRIES`."""
    found: list[Call] = []
    for call in calls:
        if len(found) == MOST_ENTRIES:
            raise Unreadable(f"a batch has at most {MOST_ENTRIES} entries")
        found.append(call)
    if not found:
        raise Unreadable("a batch needs at least one entry")
    begun = [_beginning(call) for call in found]
    often = Counter(begun)
    laid = [found[place] for place in sorted(range(len(found)), key=lambda place: often[begun[place]])]
    models = tuple(dict.fromkeys(call.model for call in found if call.model))[:MOST_NAMED]
    tools = dict(pair for call in laid for pair in zip(call.tools, call.schemas, strict=False))
    kept = dict(list(tools.items())[:MOST_NAMED])
    return Call(
        "batch", models[0] if len(models) == 1 else None, parameters=laid[-1].parameters,
        system="\n".join(dict.fromkeys(call.system for call in laid if call.system)),
        messages=tuple(message for call in laid for message in call.messages),
        tools=tuple(kept), schemas=tuple(kept.values()),
        end_user=next((call.end_user for call in found if call.end_user), None),
        max_tokens=max((call.max_tokens for call in found if call.max_tokens is not None), default=None),
        asks_for=frozenset().union(*(call.asks_for for call in found)),
        presented=tuple(one for call in found for one in call.presented)[:MOST_NAMED],
        entries=len(found), models=models,
    )  # fmt: skip


def _beginning(call: Call) -> tuple[str, str]:
    return call.system[:BEGINNING], call.messages[-1].text[:BEGINNING] if call.messages else ""


def each(items: object, key: str, inner: str, read: Readers) -> Iterator[Call]:
    """The calls of a list of objects that hold a request under `inner`. Raises Unreadable, naming the entry."""
    if not isinstance(items, list):
        raise Unreadable(f"'{key}' must be a list of requests")
    for place, item in enumerate(items):
        yield _entry(item, f"{key}[{place}]", inner, read)


def _entry(item: object, where: str, inner: str, read: Readers) -> Call:
    request = item.get(inner) if isinstance(item, dict) else None
    if not isinstance(request, dict):
        raise Unreadable(f"{where} must be an object with '{inner}'")
    try:
        return read(request)
    except Unreadable as error:
        raise Unreadable(f"{where}: {error}") from None


def upload(document: Document, readers: dict[str, Readers]) -> Call:
    """A form that uploads a file: of purpose `batch`, every line of it is read as the call that its `url` names.

    Other files are stored for later and belong to no call yet: their purpose is all that is told of them.
    """
    purpose, file = typed(document, "purpose", str, "text"), document.get("file")
    if not isinstance(file, File):
        raise Unreadable("'file' is missing")
    if purpose != "batch":
        return Call("file", parameters={"purpose": purpose} if purpose else {})
    return batch(_lines(file.data, readers))


def _lines(data: bytes, readers: dict[str, Readers]) -> Iterator[Call]:
    start = place = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = end if end >= 0 else len(data)
        line, start, place = data[start:end], end + 1, place + 1
        if line.strip():
            yield _line(line, f"line {place}", readers)


def _line(line: bytes, where: str, readers: dict[str, Readers]) -> Call:
    try:
        item = strict_json(line)
    except Unreadable as error:
        raise Unreadable(f"{where}: {error}") from None
    url = item.get("url") if isinstance(item, dict) else None
    read = readers.get(url) if isinstance(url, str) else None
    if read is None:
        raise Unreadable(f"{where} must name in 'url' one of " + ", ".join(readers))
    return _entry(item, where, "body", read)
