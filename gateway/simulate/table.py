"""The scenarios, prompts and clients of simulated traffic, read strictly from the YAML beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final

from gateway.errors import ConfigError, Place, Problem
from gateway.strict.document import Node, decoded, parse
from gateway.strict.shapes import Field, Problems, entries, flag, listing, mapping, number, one_of, raw, scalar, text, whole
from gateway.values import parse_duration

DAY: Final = 86_400_000_000


class Rhythm(StrEnum):
    """How the exchanges of a scenario are spread over its window."""

    ALWAYS = "always"
    DAY = "day"
    NIGHT = "night"
    OFFICE = "office"
    HOURLY = "hourly"
    LAUNCH = "launch"
    MINUTES = "minutes"


class Order(StrEnum):
    """How conversations are dealt to accounts."""

    ROUND_ROBIN = "round-robin"
    EVEN = "even"
    ZIPF = "zipf"


class Later(StrEnum):
    """How a conversation goes on."""

    NONE = "none"
    LOOP = "loop"
    CHAT = "chat"


class Named(StrEnum):
    """What an account's hops may be limited to."""

    ORG = "org"


def _span(what: str) -> Any:
    return scalar(parse_duration, what)


def _share(what: str) -> Any:
    return number(what, 0, 1)


_TEXTS: Final = listing(text("user", 4_000), "user", empty=False)
_USE: Final = {
    "kind": Field(text("kind"), required=True), "share": Field(_share("share"), required=True),
    "from": Field(_share("from"), default=0.0), "until": Field(_share("until"), default=1.0),
}  # fmt: skip
_EGRESS: Final = {
    "own": Field(_share("own"), default=0.0), "shared": Field(whole("shared", 1), default=1),
    "roaming": Field(whole("roaming", 1)),
}  # fmt: skip
_NEW_MODEL: Final = {"share": Field(_share("share"), required=True), "within": Field(_span("within"), required=True)}
SCENARIO: Final = {
    "id": Field(text("id"), required=True), "label": Field(text("label"), required=True),
    "title": Field(text("title"), required=True), "table": Field(text("table"), required=True),
    "assumed": Field(text("assumed"), default=""), "accounts": Field(whole("accounts", 1), required=True),
    "orgs": Field(whole("orgs", 1)), "borrows": Field(text("borrows")),
    "exchanges": Field(whole("exchanges", 1), required=True), "window": Field(_span("window"), required=True),
    "begins": Field(_span("begins"), default=0), "rhythm": Field(one_of(Rhythm, "rhythm"), required=True),
    "synchrony": Field(_share("synchrony"), default=0.0), "order": Field(one_of(Order, "order"), required=True),
    "zones": Field(whole("zones", 1, 3), default=1), "turns": Field(listing(whole("turns", 1), "turns"), default=[1, 1]),
    "gap": Field(_span("gap"), default=0), "age": Field(listing(_span("age"), "age"), required=True),
    "payments": Field(whole("payments", 1)), "plans": Field(listing(text("plan"), "plans"), default=["standard"]),
    "egress": Field(mapping(_EGRESS, "egress"), required=True), "travel": Field(_share("travel"), default=0.0),
    "users": Field(whole("users", 1)), "countries": Field(listing(text("country"), "countries", empty=False), required=True),
    "clients": Field(entries(_share("client"), "clients"), required=True),
    "prompts": Field(listing(mapping(_USE, "prompt"), "prompts", empty=False), required=True),
    "novelty": Field(_share("novelty"), default=1.0), "items": Field(whole("items", 1)),
    "hop": Field(_share("hop"), default=0.0), "hop_within": Field(one_of(Named, "hop_within")),
    "echo": Field(_share("echo"), default=0.0), "echo_status": Field(whole("echo_status", 400, 599), default=429),
    "signature": Field(_share("signature"), default=0.0), "probes": Field(_span("probes")),
    "bans": Field(_share("bans"), default=0.0), "new_model": Field(mapping(_NEW_MODEL, "new_model")),
    "forwarded": Field(_share("forwarded"), default=0.0), "refused": Field(_share("refused"), default=0.0),
    "limited": Field(_share("limited"), default=0.0), "rotates": Field(flag("rotates"), default=False),
    "declared": Field(text("declared")), "indicators": Field(listing(whole("indicator", 1, 10), "indicators"), default=[]),
}  # fmt: skip
KIND: Final = {
    "name": Field(text("name"), required=True), "framed": Field(flag("framed"), required=True),
    "fixed": Field(flag("fixed"), default=False), "variants": Field(whole("variants", 1, 100_000)),
    "paraphrases": Field(whole("paraphrases", 1, 1_000), default=1), "later": Field(one_of(Later, "later"), default=Later.NONE),
    "tools": Field(text("tools")), "system": Field(text("system"), default=""), "user": Field(_TEXTS, required=True),
    "turn": Field(text("turn"), default="{turn:10}"), "stream": Field(flag("stream"), default=False),
    "end_user": Field(flag("end_user"), default=False), "device": Field(flag("device"), default=False),
    "items": Field(whole("items", 1)), "parameters": Field(raw),
    "answer": Field(listing(whole("answer", 1), "answer"), required=True),
}  # fmt: skip
CLIENT: Final = {
    "name": Field(text("name"), required=True), "protocol": Field(text("protocol"), required=True),
    "spaced": Field(flag("spaced"), default=False), "keys": Field(listing(text("key"), "keys"), required=True),
    "headers": Field(raw, required=True),
}  # fmt: skip
_TOOLS: Final = {
    "name": Field(text("name"), required=True),
    "tools": Field(entries(listing(text("parameter"), "parameters"), "tools"), required=True),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of `scenarios.yaml`, which says what each name means. Times are µs."""

    id: str
    label: str
    title: str
    table: str
    assumed: str
    accounts: int
    orgs: int | None
    borrows: str | None
    exchanges: int
    window: int
    begins: int
    rhythm: Rhythm
    synchrony: float
    order: Order
    zones: int
    turns: list[int]
    gap: int
    age: list[int]
    payments: int | None
    plans: list[str]
    egress: Mapping[str, Any]
    travel: float
    users: int | None
    countries: list[str]
    clients: Mapping[str, float]
    prompts: list[Mapping[str, Any]]
    novelty: float
    items: int | None
    hop: float
    hop_within: Named | None
    echo: float
    echo_status: int
    signature: float
    probes: int | None
    bans: float
    new_model: Mapping[str, Any] | None
    forwarded: float
    refused: float
    limited: float
    rotates: bool
    declared: str | None
    indicators: list[int]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of prompt of `prompts.yaml`. variants: different frames; texts: of them with all their paraphrases."""

    name: str
    framed: bool
    fixed: bool
    variants: int
    paraphrases: int
    later: Later
    tools: Mapping[str, list[str]]
    system: str
    user: list[str]
    turn: str
    stream: bool
    end_user: bool
    device: bool
    items: int | None
    parameters: Mapping[str, Any]
    answer: list[int]

    @property
    def texts(self) -> int:
        return self.variants * self.paraphrases


@dataclass(frozen=True, slots=True)
class Client:
    """One header set of `clients.yaml`, in the order of the wire. keys: the order of a body's keys; spaced: its separators."""

    name: str
    protocol: str
    spaced: bool
    keys: list[str]
    headers: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Tables:
    """All of it. release: when the new model comes out, µs into the case."""

    scenarios: Mapping[str, Scenario]
    kinds: Mapping[str, Kind]
    clients: Mapping[str, Client]
    release: int


CASE: Final = ("D1", "D2", "D3", "D4")
SETS: Final = ("case", "case+benign")


@cache
def tables() -> Tables:
    """The tables that come with the package. Raises ConfigError where they do not fit together."""
    problems = Problems(raises=ConfigError)
    said = _read("scenarios", {"release": Field(_span("release"), required=True),
                               "scenarios": Field(listing(mapping(SCENARIO, "scenario"), "scenarios"))}, problems)  # fmt: skip
    prompts = _read("prompts", {"kinds": Field(listing(mapping(KIND, "kind"), "kinds")),
                                "tools": Field(listing(mapping(_TOOLS, "tools"), "tools"))}, problems)  # fmt: skip
    clients = _read("clients", {"clients": Field(listing(mapping(CLIENT, "client"), "clients"))}, problems)
    if problems.found:
        raise ConfigError(problems.found)
    tools = {one["name"]: one["tools"] for one in prompts["tools"]}
    found = Tables(
        {row["id"]: Scenario(**row) for row in said["scenarios"]},
        {row["name"]: _kind(row, tools) for row in prompts["kinds"]},
        {
            row["name"]: Client(**{**row, "headers": [tuple(pair) for pair in row["headers"].plain()]})
            for row in clients["clients"]
        },
        said["release"],
    )
    _check(found)
    return found


def _read(name: str, shape: Mapping[str, Field], problems: Problems) -> dict[str, Any]:
    place = f"{name}.yaml"
    node: Node = parse(decoded((files("gateway.simulate") / place).read_bytes(), place), place)
    return mapping(shape, place)(node, problems) or {}


def _kind(row: Mapping[str, Any], tools: Mapping[str, Any]) -> Kind:
    node = row["parameters"]
    told = {**row, "parameters": node.plain() if node is not None else {}, "variants": row["variants"] or len(row["user"]),
            "tools": tools[row["tools"]] if row["tools"] else {}}  # fmt: skip
    return Kind(**{field.name: told[field.name] for field in fields(Kind)})


def _check(found: Tables) -> None:
    """Raises ConfigError for a name that stands for nothing."""
    problems = []
    for one in found.scenarios.values():
        place = Place(f"scenarios.yaml ({one.id})")
        problems += [Problem(place, f"unknown kind '{use['kind']}'") for use in one.prompts if use["kind"] not in found.kinds]
        problems += [Problem(place, f"unknown client '{name}'") for name in one.clients if name not in found.clients]
        if one.borrows and one.borrows not in found.scenarios:
            problems.append(Problem(place, f"borrows unknown '{one.borrows}'"))
    if problems:
        raise ConfigError(problems)


def chosen(name: str) -> list[Scenario]:
    """The scenarios of a name: one of them, `case` (the campaigns), or `case+benign` (everything). Raises ValueError."""
    known = tables().scenarios
    if name == "case":
        return [known[one] for one in CASE]
    if name == "case+benign":
        return list(known.values())
    if name not in known:
        raise ValueError(f"unknown scenario '{name}'; known are {', '.join([*known, *SETS])}")
    return [known[name]]
