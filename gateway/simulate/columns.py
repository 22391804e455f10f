"""Simulated exchanges as compact records: columns of numbers become columns of signal values. Needs the extra `columns`.

Names of what is unbounded (slots, roots, openings, whole calls) are hashes of the numbers they follow from: two of them are
equal exactly where those of the bodies would be. What a look or the text of a frame decides comes from the real providers
(`looks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from gateway.replay.parquet import arrow_type, shape
from gateway.signals import Catalogue
from gateway.simulate.drawing import Numbers, Words, among, hexed, mixed, salt
from gateway.simulate.flow import MODELS, Columns
from gateway.simulate.looks import OF_FRAME, OF_LOOK, OF_TEXT, Looks
from gateway.simulate.table import Later, Tables
from gateway.simulate.world import COUNTRIES, World, address_text, user_address

FACTS: Final = (
    "at", "id", "method", "path", "protocol", "route", "size", "status", "input_tokens", "output_tokens", "label", "scenario",
)  # fmt: skip
OWN: Final = (
    "account.age", "account.billing_country", "account.id", "account.known", "account.org", "account.payment", "account.plan",
    "client.asn", "client.connection", "client.country", "client.device", "client.ip", "client.network", "client.retry",
    "client.session", "prompt.length", "prompt.opening", "prompt.root", "prompt.signature", "prompt.slots", "prompt.turns",
    "prompt.whole", "request.model", "request.models", "request.size", "reseller.forwarded_client", "response.issued",
    "workload.item",
)  # fmt: skip
SIGNALS: Final = tuple(sorted((*OWN, *OF_LOOK, *OF_TEXT, *OF_FRAME)))
_KIN: Final = 200  # words that open free texts: as many values as their kin has
_TOKEN: Final = 4  # characters
_ANSWER: Final = 240  # characters of an answer


class Compacting:
    """Makes tables of what `flow` made."""

    def __init__(self, world: World, tables: Tables, looks: Looks, catalogue: Catalogue) -> None:
        self.world, self.tables, self.looks, self.catalogue = world, tables, looks, catalogue
        self.schema = shape(SIGNALS, catalogue, FACTS)
        self._kinds, self._clients = list(tables.kinds.values()), list(tables.clients.values())
        self._scenarios = list(tables.scenarios.values())
        self._own = np.asarray([any("{any" in text for text in kind.user) for kind in self._kinds])
        self._fixed = np.asarray([kind.fixed for kind in self._kinds])
        self._chat = np.asarray([kind.later is Later.CHAT for kind in self._kinds])
        self._device = np.asarray([kind.device for kind in self._kinds])
        heads = [{value for _, value in client.headers} for client in self._clients]
        self._session, self._retry = (np.asarray([mark in head for head in heads]) for mark in ("{session}", "{retry}"))
        self._named = np.asarray([client.protocol == "anthropic" and "metadata" in client.keys for client in self._clients])
        pairs = range(len(self._kinds))
        self._length = np.asarray([[looks.length(kind, turn) for turn in (0, 1)] for kind in pairs])

    def table(self, made: Columns, ids: Words, prefix: int) -> pa.Table:
        """One row group. ids: the number of each row; prefix: what all ids of this traffic begin with."""
        look, seen, text, told = self.looks.of(made)
        found = self._facts(made, look, seen, ids, prefix) | self._people(made) | self._said(made, text, told)
        found |= {name: self._listed(name, look, seen) for name in OF_LOOK}
        found |= {name: self._listed(name, text, told) for name in OF_TEXT}
        return pa.Table.from_arrays([found[field.name] for field in self.schema], schema=self.schema)

    def _facts(self, made: Columns, look: Numbers, seen: Sequence[dict[str, Any]], ids: Words, prefix: int) -> dict[str, Any]:
        length = self._lengths(made)
        words = np.empty((len(ids), 2), dtype=">u8")
        words[:, 0], words[:, 1] = prefix, ids
        identity = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(words.tobytes())])
        named = {"method": "request.method", "path": "request.path", "protocol": "request.protocol", "route": "request.route"}
        return {
            "at": pa.array(made["at"]), "id": identity, "size": pa.array(length + 400), "status": pa.array(made["status"]),
            "input_tokens": pa.array(length // _TOKEN), "output_tokens": pa.array(made["output"]),
            "request.size": pa.array(length + 400), "prompt.length": pa.array(length),
            "label": _words([one.label for one in self._scenarios], made["scenario"]),
            "scenario": _words([one.id for one in self._scenarios], made["scenario"]),
            "request.model": _words(MODELS, made["model"]),
            "request.models": pa.array([[model] for model in MODELS], pa.list_(pa.string())).take(pa.array(made["model"])),
            **{fact: self._listed(name, look, seen) for fact, name in named.items()},
        }  # fmt: skip

    def _people(self, made: Columns) -> dict[str, Any]:
        world, account, network = self.world, made["account"], made["network"]
        address = world.address[network]
        session, retries = self._session[made["client"]], self._retry[made["client"]]
        device = self._named[made["client"]] & self._device[made["kind"]]
        return {
            "account.id": _names(world.ids[account]), "account.org": _names(world.orgs[account]),
            "account.payment": _names(world.cards[account]), "account.known": pa.array(np.ones(len(account), dtype=bool)),
            "account.age": pa.array(made["at"] - world.created[account]),
            "account.plan": _words(world.plans, world.plan[account]),
            "account.billing_country": _words(COUNTRIES, world.home[account]),
            "client.country": _words(COUNTRIES, world.country[network]), "client.asn": pa.array(world.asn[network]),
            "client.network": _texts(address, lambda one: f"{address_text(one, 0)}/24"),
            "client.ip": _texts(address * 256 + made["host"], lambda one: address_text(one >> 8, one & 255)),
            "client.connection": _names(made["connection"]),
            "client.session": _names(mixed(salt("session"), made["root"]), session | device),
            "client.device": _names(mixed(salt("device"), made["user"]), device),
            "client.retry": pa.array(made["retry"], mask=~retries),
            "reseller.forwarded_client": _texts(made["user"], user_address, made["forwarded"].astype(bool)),
        }  # fmt: skip

    def _said(self, made: Columns, text: Numbers, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What ties calls by their words: see `plugins.conversation` and `plugins.prompt`."""
        kind, turn, root, signed = made["kind"], made["turn"], made["root"], made["signature"]
        none = np.uint64(0)
        item, own = np.where(self._fixed[kind], none, made["item"]), np.where(self._own[kind], root, none)
        first = mixed(salt("said"), kind, made["text"], item, own)
        later = self._chat[kind] & (turn > 0)
        said = np.where(later, mixed(salt("later"), root, turn), first)
        handed, opened = signed != 0, (turn > 0) | (signed != 0)
        began = np.where(handed, mixed(salt("handed"), kind, made["text"], signed), first)
        whole = mixed(salt("whole"), first, made["model"], np.where(turn > 0, root, none), turn, signed)
        framed = np.asarray([one["prompt.template"] is not None for one in told])[text]
        free = {
            "prompt.template": hexed(mixed(salt("template"), said)),
            "prompt.kin": hexed(mixed(salt("kin"), among(_KIN, salt("word"), said))),
        }  # fmt: skip
        issued, sent = made["issued"] != 0, np.flatnonzero(made["issued"])
        offsets = np.concatenate([[0], np.cumsum(issued)]).astype(np.int32)
        values = _hex(mixed(salt("issued"), made["issued"][sent]))
        return {
            "prompt.slots": _names(mixed(salt("slots"), said)), "prompt.root": _names(mixed(salt("root"), began)),
            "workload.item": _names(mixed(salt("item"), began)), "prompt.whole": _names(whole),
            "prompt.opening": _names(mixed(salt("opening"), began, np.where(handed, none, root)), opened),
            "prompt.signature": _names(mixed(salt("issued"), signed), handed),
            "prompt.turns": pa.array(1 + 2 * turn + 2 * handed),
            "response.issued": pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~issued)),
            **{name: self._framed(name, text, told, framed, values) for name, values in free.items()},
        }  # fmt: skip

    def _framed(self, name: str, text: Numbers, told: Sequence[dict[str, Any]], framed: Any, free: Any) -> Any:
        """A column of what the frame says where it is fixed, else of what each text does."""
        fixed = np.asarray([str(one[name] or "") for one in told], dtype="S16")[text]
        return _digits(np.where(framed, fixed, free)).dictionary_encode()

    def _lengths(self, made: Columns) -> Numbers:
        first, second = self._length[made["kind"], 0], self._length[made["kind"], 1]
        handed = np.where(made["signature"] != 0, first + _ANSWER, 0)
        return np.asarray(first + (second - first) * made["turn"] + handed)

    def _listed(self, name: str, places: Numbers, values: Sequence[dict[str, Any]]) -> Any:
        """A column of one of some values for each row."""
        held = [sorted(one[name]) if isinstance(one[name], frozenset) else one[name] for one in values]
        kind = arrow_type(self.catalogue[name].type)
        if not pa.types.is_dictionary(kind):
            return pa.array(held, kind).take(pa.array(places))
        words = list(dict.fromkeys(one for one in held if one is not None))
        codes = np.asarray([words.index(one) if one is not None else -1 for one in held], dtype=np.int32)[places]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(words, pa.string()))


def _words(words: Sequence[str], places: Numbers) -> Any:
    """A column of words by their places. Each stands in its dictionary once, or Parquet would write it out row by row."""
    known = {word: place for place, word in enumerate(dict.fromkeys(words))}
    codes = np.asarray([known[word] for word in words], dtype=np.int32)[places]
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(known)))


def _digits(texts: Any) -> Any:
    """Texts of 16 bytes each as an array of Arrow, without a look at each."""
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets.tobytes()), pa.py_buffer(texts.tobytes()))


def _hex(values: Words) -> Any:
    return _digits(hexed(values))


def _names(values: Words, there: Any = None) -> Any:
    """Hashes as 16 hexadecimal digits; null where something is not there."""
    different, places = np.unique(values, return_inverse=True)
    mask = None if there is None else ~there
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32), mask=mask), _hex(different))


def _texts(values: Any, write: Callable[[int], str], there: Any = None) -> Any:
    different, places = np.unique(values, return_inverse=True)
    mask = None if there is None else ~there
    texts = pa.array([write(one) for one in different.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32), mask=mask), texts)
