"""Audit records, read one by one and forgotten: what is kept of them are counts and hashes, in tables of bounded size.

A node is an org: its accounts are one party, and are never linked to each other. Where a record names no org, the account is
its own. Signals that are not recorded are simply absent; `Seen.recorded` counts how many records had each, because a family
whose signal nobody recorded finds nothing, and that must be told apart from nothing being there. Labels are never read.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from gateway.audit.segments import record_files
from gateway.audit.stored import is_parquet, lines, unpacked
from gateway.clusters.table import Hashes, Table
from gateway.errors import Place, RecordError
from gateway.values import SECOND, parse_timestamp

MOST_ACCOUNTS: Final = 3_000_000
MOST_VALUES: Final = 64
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
REFUSALS: Final = frozenset({401, 403, 429, 503, 529})
SINGLE: Final = {"payment": "account.payment", "device": "client.device", "session": "client.session",
                 "hop": "prompt.opening", "signature": "prompt.signature"}  # fmt: skip
SIGNALS: Final = (
    "account.id", "account.org", "account.payment", "client.device", "client.session", "client.network", "client.fingerprint",
    "prompt.template", "prompt.kin", "prompt.opening", "prompt.whole", "prompt.signature", "prompt.root", "prompt.slots",
    "reseller.probe",
)  # fmt: skip
TEMPLATES: Final = ("prompt.template", "prompt.kin")
UNITS: Final = ("root", "slots", "day")


class Accounts:
    """The parties, numbered as they come, and what each did in all."""

    def __init__(self) -> None:
        self.orgs: dict[str, int] = {}
        self.accounts: dict[tuple[str, int], int] = {}
        self.tallies = {name: array("Q") for name in ("exchanges", "input_tokens", "output_tokens", "refused", "declared")}
        self.firsts, self.lasts = array("q"), array("q")

    def node(self, org: str, account: str, at: int, place: Place) -> int:
        """The number of an org, which did one thing more at a time (µs). Raises RecordError where there are too many."""
        node = self.orgs.get(org)
        if node is None:
            node = self.orgs[org] = len(self.orgs)
            for column in self.tallies.values():
                column.append(0)
            self.firsts.append(at)
            self.lasts.append(at)
        key = (account, node)
        self.accounts[key] = self.accounts.get(key, 0) + 1
        if len(self.accounts) > MOST_ACCOUNTS:
            raise TooManyError(place, f"more than {MOST_ACCOUNTS:,} accounts; split the records by account.payment or by time")
        self.firsts[node], self.lasts[node] = min(self.firsts[node], at), max(self.lasts[node], at)
        return node


class TooManyError(RecordError):
    """More accounts than one run can hold."""


class Seen:
    """What was seen in all records. on_error receives every record that cannot be read.

    phase: µs by which minutes are shifted, so that nothing happens on their edges by agreement (taken from the seed).
    digest: of the set of records, whatever their order.
    """

    def __init__(self, seed: int = 0, on_error: Callable[[RecordError], None] | None = None, most: int | None = None) -> None:
        self._on_error = on_error or (lambda error: None)
        self._hash = Hashes()
        self.phase = int.from_bytes(blake2b(b"phase %d" % seed, digest_size=8).digest()) % MINUTE
        self.accounts = Accounts()
        names = (*SINGLE, "template", "egress", "probe", *UNITS, "whole", "bins")
        bound = {} if most is None else {"most": most}
        self.tables = {name: Table(by_slot=name == "bins", **bound) for name in names}
        self.recorded = dict.fromkeys(SIGNALS, 0)
        self.read = self.unreadable = self.nameless = 0
        self.honest: set[str] = set()
        self._honest = False
        self._sum = 0

    @property
    def digest(self) -> str:
        return f"{self._sum:032x}"

    def take(self, paths: Iterable[str], honest: bool = False, columns: Callable[[Seen, str], None] | None = None) -> None:
        """Read ledgers and files of records (`-` is standard input, `.gz` is unpacked). Raises RecordError.

        honest: that the orgs in them are known to be honest; `honest` then holds their names. columns: takes what a Parquet
        file of compact records holds; this room does not know their shape.
        """
        self._honest = honest
        for name in record_files(paths):
            if columns is not None and is_parquet(name):
                columns(self, name)
                continue
            with unpacked(name) as file:
                for place, text in lines(name, file, self._unreadable):
                    self.line(text, place)

    def line(self, text: bytes, place: Place) -> None:
        """Take one line. What cannot be read is counted and named."""
        try:
            self._record(json.loads(text), place)
        except TooManyError:
            raise
        except RecordError as error:
            self._unreadable(error)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            self._unreadable(RecordError(place, f"is not a whole record: {type(error).__name__}: {error}"))
        else:
            self.named(text.strip())

    def named(self, record: bytes) -> None:
        """Let the digest know a record that was taken, by what tells it from all others."""
        self._sum = (self._sum + int.from_bytes(blake2b(record, digest_size=16).digest())) % 2**128

    def _unreadable(self, error: RecordError) -> None:
        self.unreadable += 1
        self._on_error(error)

    def _record(self, entry: Any, place: Place) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("signals"), dict):
            made = isinstance(entry, dict) and "headers" in entry
            mend = "a capture: run `sluice dry-run --decisions` over it first" if made else "no audit record (signals, at)"
            raise RecordError(place, f"is {mend}")
        signals, answer, at = entry["signals"], entry.get("answer", {}), parse_timestamp(entry["at"])
        told = {name: texts_of(name, signals[name]) for name in SIGNALS if name in signals}
        status, usage = answer.get("status"), answer.get("usage", {})
        tokens = [_amount(usage.get(name, 0)) for name in ("input_tokens", "output_tokens")]
        declared = any(one["covers"] is True for one in entry.get("workloads", ()))
        nobody = "account.org" in entry.get(
            "missing", ()
        )  # a key that nobody listed: whoever invents keys must not make owners
        self.exchange(told, at, place, (tokens[0], tokens[1], status in REFUSALS, declared), nobody)

    def exchange(
        self, told: Mapping[str, list[str]], at: int, place: Place, did: tuple[int, int, bool, bool], nobody: bool = False
    ) -> None:
        """Take one exchange at a time (µs). told: texts of the values, by the names of `SIGNALS`.

        did: input and output tokens, whether it was refused, whether a declared workload covers it. nobody: its account is not
        to be counted. Raises RecordError where there are too many accounts.
        """
        self.read += 1
        for name, texts in told.items():
            self.recorded[name] += bool(texts)
        account = told.get("account.id")
        if nobody or not account:
            self.nameless += 1
            return
        org = told.get("account.org") or account
        node = self.accounts.node(org[0], account[0], at, place)
        if self._honest:
            self.honest.add(org[0])
        for column, amount in zip(self.accounts.tallies.values(), (1, *did), strict=True):
            column[node] += amount
        self._links(told, node, at, did[2])

    def _links(self, told: Mapping[str, list[str]], node: int, at: int, refused: bool) -> None:
        tables, hashed = self.tables, self._hash
        for family, signal in SINGLE.items():
            for text in told.get(signal, ()):
                tables[family].add(hashed(text), node, at)
        self._templates(told, node, at)
        network, fingerprint = told.get("client.network"), told.get("client.fingerprint")
        if network and fingerprint:
            tables["egress"].add(hashed(f"{network[0]}\0{fingerprint[0]}"), node, at)
        if network and told.get("reseller.probe"):
            tables["probe"].add(hashed(network[0]), node, at)
        for text in told.get("prompt.whole", ()):
            tables["whole"].add(hashed(text), node, at, at << 1 | refused)
        for unit in ("root", "slots"):
            for text in told.get(f"prompt.{unit}", ()):
                tables[unit].add(hashed(text), node, at)
        tables["day"].add((at // DAY) % 2**64, node, at)

    def _templates(self, told: Mapping[str, list[str]], node: int, at: int) -> None:
        """What is said: minute by minute, and, where a conversation begins, in all."""
        for text in told.get("prompt.template", ()):
            self.tables["bins"].add(self._hash(text), node, at, (at + self.phase) // MINUTE)
        for name in TEMPLATES if "prompt.opening" not in told else ():
            for text in told.get(name, ()):
                self.tables["template"].add(self._hash(f"{name}\0{text}"), node, at)


def texts_of(name: str, value: object) -> list[str]:
    """The texts of a recorded value: of a flag its name when it is set, of a set its elements."""
    if type(value) is str:
        return [value] if value else []
    if isinstance(value, bool) or value is None:
        return [name] if value else []
    items = sorted(value, key=str) if isinstance(value, frozenset) else value if isinstance(value, list) else [value]
    if not all(isinstance(item, (str, int)) for item in items):
        raise ValueError(f"{name} is neither text nor a list of texts")
    return [str(item) for item in items[:MOST_VALUES] if item != ""]


def _amount(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no number of tokens")
    return value
