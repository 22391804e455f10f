"""What the real providers say of simulated requests, asked once for each kind of request instead of each request.

All that does not depend on how a frame is filled is a constant of a client, a kind of prompt and a place in the conversation (a
look), or of the text of a frame: the fingerprint, contradictions, markers, decoding, structure, the template of a fixed frame.
So a request of each is made, as `bodies` writes it, and resolved like any other. Compact facts are then what the bodies would
give, by construction; `tests/simulate/test_agreement.py` holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from gateway.facts import Facts
from gateway.registry import Registry
from gateway.signals import View
from gateway.simulate.bodies import PATHS, body, headers
from gateway.simulate.drawing import Numbers
from gateway.simulate.flow import FIELDS, Columns
from gateway.simulate.table import Client, Kind, Later, Tables
from gateway.values import Failed, Missing
from gateway.web.intake import Body, Head, Intake

OF_LOOK: Final = (
    "client.body_shape", "client.claimed_version", "client.family", "client.fingerprint", "client.json_style",
    "client.key_order", "client.runtime", "client.sdk_tuple", "client.wire_runtime", "prompt.has_tool_results",
    "prompt.known_suite", "prompt.public", "prompt.system", "prompt.tools", "request.end_user", "request.logprobs",
    "request.max_tokens", "request.method", "request.n", "request.operation", "request.parameters", "request.path",
    "request.protocol", "request.reasoning", "request.route", "request.stream", "request.temperature",
    "reseller.contradiction_count", "reseller.contradictions", "reseller.marker_specificity", "reseller.markers",
    "reseller.probe", "reseller.weak_contradiction_count",
)  # fmt: skip
OF_TEXT: Final = ("prompt.close_kin", "prompt.structure")
OF_FRAME: Final = ("prompt.kin", "prompt.template")
_SAMPLE: Final = 0x5EED


class Looks:
    """Asks the providers of a registry, and remembers. hash_key: as intake has it."""

    def __init__(self, registry: Registry, hash_key: bytes, tables: Tables) -> None:
        self._intake = Intake(registry, hash_key)
        self._catalogue = registry.signals
        self._kinds: list[Kind] = list(tables.kinds.values())
        self._clients: list[Client] = list(tables.clients.values())
        self._texts = np.cumsum([0, *[kind.texts for kind in self._kinds]])
        self._chat = np.asarray([kind.later is Later.CHAT for kind in self._kinds])
        self._known: dict[tuple[str, int], dict[str, Any]] = {}

    def of(self, made: Columns) -> tuple[Numbers, list[dict[str, Any]], Numbers, list[dict[str, Any]]]:
        """For each row the place of its look and of its text in lists of values by signal; what is missing is None."""
        turned = made["turn"] > 0
        looks = (made["client"] * len(self._kinds) + made["kind"]) * 2 + turned
        texts = (self._texts[made["kind"]] + made["text"]) * 2 + (turned & self._chat[made["kind"]])
        return (*self._asked("look", looks, self._look), *self._asked("text", texts, self._text))

    def length(self, kind: int, turn: int) -> int:
        """About how many characters the conversation of a kind has at a turn."""
        first, second = self._look((kind) * 2)["length"], self._look(kind * 2 + 1)["length"]
        return int(first + (second - first) * turn)

    def _asked(self, what: str, keys: Numbers, ask: Callable[[int], dict[str, Any]]) -> tuple[Numbers, list[dict[str, Any]]]:
        different, places = np.unique(keys, return_inverse=True)
        found = []
        for key in different.tolist():
            if (what, key) not in self._known:
                self._known[what, key] = ask(key)
            found.append(self._known[what, key])
        return places, found

    def _look(self, key: int) -> dict[str, Any]:
        pair, turned = divmod(key, 2)
        client, kind = divmod(pair, len(self._kinds))
        view = self._view(self._clients[client], self._kinds[kind], 0, turned)
        size = len(view.facts.body or b"")
        return {**self._values(view, OF_LOOK), "length": view.get("prompt.length"), "size": size}

    def _text(self, key: int) -> dict[str, Any]:
        place, turned = divmod(key, 2)
        kind = int(np.searchsorted(self._texts, place, side="right")) - 1
        said = self._kinds[kind]
        view = self._view(self._clients[0], said, place - int(self._texts[kind]), turned)
        framed = said.framed and not (turned and said.later is Later.CHAT)
        none = dict.fromkeys(OF_FRAME)
        return {**self._values(view, OF_TEXT), **(self._values(view, OF_FRAME) if framed else none)}

    def _view(self, client: Client, kind: Kind, text: int, turn: int) -> View:
        row = dict.fromkeys(FIELDS, 0) | {"text": text, "turn": turn, "root": _SAMPLE, "item": _SAMPLE, "user": _SAMPLE}
        raw = body(client, kind, row)
        lines = headers(client, row, "sk-simulated", len(raw), None)
        head = Head("POST", PATHS[client.protocol], headers=tuple((name.lower(), value) for name, value in lines))
        facts: Facts = self._intake.facts(head, Body(raw=raw, size=len(raw)), 0, {"id": "simulated"})
        return View(facts, self._catalogue)

    def _values(self, view: View, names: Sequence[str]) -> dict[str, Any]:
        found = {name: view.get(name) for name in names}
        return {name: None if isinstance(value, (Missing, Failed)) else value for name, value in found.items()}
