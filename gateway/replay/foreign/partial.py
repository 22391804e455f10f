"""Exchanges of which something is told only.

A log of another program carries some facts and not others. Its signals are resolved by the providers that resolve everybody's,
over facts that raise `NotRecordedError` when they are asked for what the log does not carry: so what a source can feed is
found, not listed, and holds for signals of plugins too. The values found stand in the exchange as an audit record's would; what
raised is not recorded, which rules take as unknown, and which is told apart from a value that was looked for and is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NoReturn, TypeVar

from gateway.errors import NotRecordedError, Place
from gateway.facts import Answer, Call, Cause, End, Facts, Usage
from gateway.replay.exchange import Exchange, hashed, identity
from gateway.replay.making import Maker
from gateway.signals import NOT_RECORDED, View
from gateway.values import Missing
from gateway.web.intake import Body, Head

NONE: Final = Missing("none in the record")
_ROUTED: Final = ("protocol", "route", "template")
_KEYS: Final = ("authorization", "x-api-key", "x-goog-api-key")
Kind = TypeVar("Kind")


class Stated(dict[str, Any]):
    """A mapping that knows a few of its keys only; one that is None is known to be absent."""

    def __missing__(self, name: str) -> NoReturn:
        raise NotRecordedError(name)

    def get(self, name: str, default: Any = None) -> Any:
        found = self[name]
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        raise NotRecordedError("others")

    def __contains__(self, name: object) -> bool:
        return self[str(name)] is not None

    def items(self) -> NoReturn:
        raise NotRecordedError("others")

    def keys(self) -> NoReturn:
        raise NotRecordedError("others")

    def values(self) -> NoReturn:
        raise NotRecordedError("others")


class _Partial:
    """Mixed into a dataclass with slots: a field that was emptied is one that nobody told."""

    __slots__ = ()

    def __getattr__(self, name: str) -> NoReturn:
        raise NotRecordedError(name)


class _PartialFacts(_Partial, Facts):
    __slots__ = ("_told",)
    _told: Mapping[str, str | None]

    def header(self, name: str) -> str | None:
        if name not in self._told:
            raise NotRecordedError(name)
        return self._told[name]

    def header_values(self, name: str) -> list[str]:
        found = self.header(name)
        return [] if found is None else [found]

    @property
    def first(self) -> Mapping[str, str]:
        raise NotRecordedError("headers")


class _PartialCall(_Partial, Call):
    __slots__ = ()


class _PartialAnswer(_Partial, Answer):
    __slots__ = ()


class _PartialUsage(_Partial, Usage):
    __slots__ = ()


@dataclass(slots=True)
class Told:
    """What a log tells of one exchange. What is not in a mapping was not told; None there: it was told that there is none.

    at: µs since 1970. id: the source's own, unique in it. facts: by the names of `Facts`. headers: lower-case. account: by the
    names of `account.*` (without an org it is its own). call: by the names of `Call`. document: the body as JSON. usage:
    by the names of `Usage`.
    answer: `status`, `model`, `issued`. signals: values that the source itself worked out.
    """

    at: int
    id: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str | None] = field(default_factory=dict)
    account: dict[str, Any] | None = None
    call: dict[str, Any] | None = None
    document: object = None
    usage: dict[str, int | None] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    end: End = End.COMPLETE
    signals: dict[str, object] = field(default_factory=dict)
    label: str | None = None


def exchange(told: Told, place: Place, maker: Maker) -> Exchange:
    """The exchange of what is told. Raises UnansweredError, and what a part of the wrong kind raises."""
    whole, known = _facts(told, place, maker)
    facts = _facts_told(whole, known, told)
    answer = Answer(usage=Usage(**told.usage), end=told.end, **told.answer)
    view = View(facts, maker.catalogue, _answer_told(answer, told), dict(told.signals))
    recorded, settled = _values(view)
    kept = replace(
        whole, headers=(), body=None, keys=(), call=None, account=None, looked_up=None, credential=None, recorded=recorded
    )
    named = identity(place, told.at) if told.id is None else hashed(told.id)
    return Exchange(place, named, kept, replace(answer, recorded=settled), told.label)


def _facts(told: Told, place: Place, maker: Maker) -> tuple[Facts, set[str]]:
    """The facts as whole as they can be made, and which of them were told."""
    given, known = dict(told.facts), {"at", *told.facts}
    path, _, query = str(given.pop("path", None) or "").partition("?")
    head = Head(
        method=given.pop("method", None) or "POST", path=path, query=query, peer=given.get("peer"),
        http_version=given.pop("http_version", None) or "1.1",
        headers=tuple((name, value) for name, value in told.headers.items() if value is not None),
    )  # fmt: skip
    facts = maker.intake.facts(head, Body(document=told.document, size=given.get("size") or 0), told.at, told.account)
    facts = maker.looked_up(head, facts, place)
    if path:
        known |= {*_ROUTED} | ({"cause"} if facts.cause is Cause.ROUTE_UNRECOGNISED else set())
    else:
        facts = replace(facts, path="/", cause=None)
    if facts.cause is not Cause.ROUTE_UNRECOGNISED:  # of a body that was never told nothing can be wrong
        facts = replace(facts, cause=None, detail="")
    known |= {"call"} if told.document is not None or told.call is not None else set()
    known |= {"account"} if told.account is not None else set()
    if any(name in told.headers for name in _KEYS):
        known |= {"credential", "credentials", "looked_up", "account"}
    elif told.account is None:
        known -= {"account"}
    return replace(facts, **given), known


def _facts_told(whole: Facts, known: set[str], told: Told) -> Facts:
    partial = _emptied(_PartialFacts, whole, known)
    object.__setattr__(partial, "_told", told.headers)
    if told.account is not None:
        object.__setattr__(partial, "account", Stated({"org": None, **told.account}))
    if told.call is not None and whole.call is None:
        call = Call(**{"operation": "", **told.call})
        object.__setattr__(partial, "call", _emptied(_PartialCall, call, set(told.call)))
    return partial


def _answer_told(answer: Answer, told: Told) -> Answer:
    partial = _emptied(_PartialAnswer, answer, {"end", "usage", *told.answer})
    object.__setattr__(partial, "usage", _emptied(_PartialUsage, answer.usage, set(told.usage)))
    object.__setattr__(partial, "recorded", None)
    return partial


def _emptied(kind: type[Kind], whole: Any, known: set[str]) -> Kind:
    """A dataclass of a partial kind with those fields alone that are known."""
    partial = object.__new__(kind)
    for one in fields(whole):
        if one.name in known or one.name == "recorded":
            object.__setattr__(partial, one.name, getattr(whole, one.name))
    return partial


def _values(view: View) -> tuple[dict[str, object], dict[str, object]]:
    """The signals as a record holds them: those known at once, and those known after, with NOT_RECORDED where it is."""
    recorded: dict[str, object] = {}
    settled: dict[str, object] = {}
    for name, signal in view.catalogue.items():
        if signal.derived or signal.counted or signal.recalls is not None:
            continue
        try:
            (settled if signal.settled else recorded)[name] = view.get(name)
        except NotRecordedError:
            if signal.settled:
                settled[name] = recorded[name] = NOT_RECORDED  # known before the answer: measures on it will never count
    return recorded, settled
