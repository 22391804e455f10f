"""What the protocol modules share: reading loosely typed JSON strictly enough to be sure what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.facts import Message
from gateway.protocol import Unreadable

Document = Mapping[str, Any]
LONGEST_NAME: Final = 512
LARGEST: Final = 2**53
MOST_PARAMETERS: Final = 256
SCHEMAS: Final = ("parameters", "input_schema", "parametersJsonSchema")


def typed(document: Document, key: str, kind: type | tuple[type, ...], named: str) -> Any:
    """The value of a key, None when absent or null. Raises Unreadable when it is of another type."""
    value = document.get(key)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
        raise Unreadable(f"'{key}' must be {named}")
    return value


def model_name(document: Document) -> str | None:
    """The model asked for. It is recorded and counted by, so it has to be a name, not a text."""
    name = typed(document, "model", str, "text")
    if name is not None and len(name) > LONGEST_NAME:
        raise Unreadable(f"'model' is longer than {LONGEST_NAME} characters")
    return str(name) if name is not None else None


def scalars(document: Document, names: Iterable[str]) -> dict[str, object]:
    """The scalar parameters that were sent, null left out."""
    return {name: document[name] for name in names if isinstance(document.get(name), (str, int, float, bool))}


def message(role: object, content: Any, where: str) -> Message:
    """One message from string content or a list of parts; part kinds are kept, text is joined by line ends."""
    if not isinstance(role, str):
        raise Unreadable(f"{where} needs a 'role'")
    if content is None or isinstance(content, str):
        return Message(role, content or "")
    if not isinstance(content, list):
        raise Unreadable(f"{where}: 'content' must be text or a list of parts")
    texts, kinds = [], set()
    for part in content:
        if not isinstance(part, dict):
            raise Unreadable(f"{where}: every part of 'content' must be an object")
        kind = str(part.get("type", "text"))
        kinds.add(PART_KINDS.get(kind, kind))
        texts += _texts(part)
    return Message(role, "\n".join(texts), frozenset(kinds))


PART_KINDS: Final = {"input_text": "text", "output_text": "text", "image_url": "image", "input_image": "image"}


def _texts(part: Mapping[str, Any]) -> list[str]:
    found = [part[key] for key in ("text", "refusal", "thinking") if isinstance(part.get(key), str)]
    source = part.get("source") if part.get("type") == "document" else None
    if isinstance(source, dict):  # a document that is text, or made of parts that are
        found += [source["data"]] if source.get("type") == "text" and isinstance(source.get("data"), str) else _texts(source)
    inner = part.get("content")
    if isinstance(inner, str):
        found.append(inner)
    elif isinstance(inner, list):
        found += [text for piece in inner if isinstance(piece, dict) for text in _texts(piece)]
    return found


def said(parts: object) -> str:
    """The text of an answer's content: itself, or that of its parts; empty where it has none."""
    if isinstance(parts, str):
        return parts
    return "\n".join(text for part in dicts(parts) for text in _texts(part))


def finish(holders: Iterable[Mapping[str, Any]], key: str) -> str:
    """Why an answer ended: the first of several that says so."""
    return next((found for holder in holders if isinstance(found := holder.get(key), str)), "")


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects of a list; nothing of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def clamp(document: dict[str, Any], keys: Iterable[str], most: int | None, otherwise: str = "") -> list[str]:
    """Lower whole numbers that are above `most`; where none of the keys was sent, write `otherwise`. Returns what changed."""
    if most is None:
        return []
    sent = [key for key in keys if document.get(key) is not None]
    above = [key for key in sent if (number := whole(document[key])) is None or not 1 <= number <= most]
    changed = above if sent else [otherwise] if otherwise else []
    document.update(dict.fromkeys(changed, most))
    return [f"{key}={most}" for key in changed]


def without(document: dict[str, Any], keys: Iterable[str]) -> list[str]:
    """Take keys out; returns what changed."""
    found = [key for key in keys if asked(document, key)]
    for key in keys:
        document.pop(key, None)
    return [f"{key}=off" for key in found]


def asked(document: Document, key: str) -> bool:
    """Whether a key asks for something: 0 does, because some servers answer `logprobs: 0`."""
    return document.get(key) is not None and document[key] is not False


def most_output(document: Document, keys: Iterable[str]) -> int | None:
    """The most output tokens asked for under these keys; None where none says so."""
    return max((number for key in keys if (number := whole(document.get(key))) is not None and number > 0), default=None)


def whole(value: object) -> int | None:
    """A whole number of a size that can be counted with, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST else None


def tool_names(tools: Any) -> tuple[str, ...]:
    """The names of declared tools, in order; unnamed built-in tools go by their type."""
    if tools is None:
        return ()
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Unreadable("'tools' must be a list of objects")
    names = []
    for tool in tools:
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else tool.get("name")
        names.append(str(name or tool.get("type", "")))
    return tuple(names)


def tool_schemas(tools: Any) -> tuple[tuple[str, ...], ...]:
    """The names of the parameters of each declared tool, in the order of `tool_names`; nothing where a tool states none."""
    declared = tools if isinstance(tools, list) else []
    return tuple(_parameters(tool.get("function") if isinstance(tool.get("function"), dict) else tool) for tool in declared)


def _parameters(tool: Mapping[str, Any]) -> tuple[str, ...]:
    schema: Mapping[str, Any] = next((tool[key] for key in SCHEMAS if isinstance(tool.get(key), dict)), {})
    properties = schema.get("properties")
    return tuple(properties)[:MOST_PARAMETERS] if isinstance(properties, dict) else ()


def count(document: Any, *path: str) -> int | None:
    """A non-negative whole number at a path of keys, or None."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    whole = isinstance(document, int) and not isinstance(document, bool) and document >= 0
    return document if whole else None
