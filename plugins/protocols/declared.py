"""Routes that the operator declares (`routes:` in gateway.yaml): paths no protocol module knows, still judged.

Each belongs to a protocol, which gives its upstream, its credentials and the shape of its errors. `judge` says how far its
bodies are read: `head` not at all, `json` and `text` for whatever they say, or the name of a route of that protocol whose
bodies have the same shape (`chat.completions` for a deployment's own path). Whatever is chosen, the caller's identity, region,
client and pace are judged as everywhere. Paths are exact but for `*`, which stands for one whole segment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.errors import ConfigError, Place, Problem, did_you_mean
from gateway.facts import Call, Message
from gateway.plugins.protocols.reading import Document, model_name
from gateway.protocol import Route, Takes
from gateway.registry import Registry, Settings

NAME: Final = "declared"
OWN: Final = ("/healthz", "/readyz")
_PATH: Final = re.compile(r"(/(\*|(?!\.{1,2}(/|$))[A-Za-z0-9._~!$&'()+,;=:@-]+))+")


def read_json(document: Document) -> Call:
    """Any JSON object: its model, where it names one, and every text in it as one message, in the order they stand."""
    texts: list[str] = []
    rest: list[Any] = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, (dict, list)):
            rest += reversed(list(value.values()) if isinstance(value, dict) else value)
    said = (Message("user", "\n".join(texts)),) if texts else ()
    named = isinstance(document.get("model"), str)
    return Call("generic", model_name(document) if named else None, document.get("stream") is True, messages=said)


def read_text(document: Document) -> Call:
    """Any body: its text, as far as it is one."""
    return Call("generic", messages=(Message("user", document["text"]),) if document["text"] else ())


BARE: Final = {
    "head": Route(NAME, "", ""),
    "json": Route(NAME, "", "", read_json),
    "text": Route(NAME, "", "", read_text, takes=Takes.TEXT),
}


def register(registry: Registry, settings: Settings) -> None:
    problems: list[Problem] = []
    for number, told in enumerate(settings.get("routes") or ()):
        place = settings.get("places", {}).get(f"routes.{number}", Place(f"routes[{number}]"))
        problems += _declare(registry, told, place)
    if problems:
        raise ConfigError(problems)


def _declare(registry: Registry, told: Mapping[str, Any], place: Place) -> list[Problem]:
    method, path, judge = str(told["method"]), told["path"], told.get("judge") or "head"
    dialect = registry.dialects.get(told["protocol"])
    if dialect is None:
        known = list(registry.dialects)
        return [Problem(place, f"unknown protocol '{told['protocol']}'", did_you_mean(told["protocol"], known))]
    if not _PATH.fullmatch(path) or path in OWN:
        return [Problem(place, f"'{path}' is no path to declare", "write it as /v1/rerank, with * for a whole segment")]
    if registry.routes.get((method, path)):
        taken = next(iter(registry.routes[method, path].values()))
        return [Problem(place, f"{method} {path} is known already, as {taken[0].name}'s {taken[1].name}", "remove it here")]
    shapes = BARE | {route.name: route for route in dialect.routes if route.read}
    if judge not in shapes:
        return [
            Problem(place, f"judge: there is no '{judge}' among {dialect.name}'s routes", did_you_mean(judge, list(shapes)))
        ]
    registry.add_route(dialect, replace(shapes[judge], method=method, path=path, marked_by=""), place)
    return []
