"""What kind of network a caller comes through: `client.network_kind`, `client.network_kinds`, `client.network_source`.

Asked are the operator's lists (`geo.networks`), the database of anonymous networks (`geo.anonymous`), and the flags that a
country database of the larger sort carries. A kind is a fact about an exit, never about a person: remote workers use VPNs,
whole countries stand behind satellites, programs live in data centres.

Three things are told apart. Somebody names the network: its kind, the most telling one first (`KINDS`). Everybody who was asked
is silent: `unknown`, and the set is empty. Nobody could be asked (nothing configured, everything too old, a list of systems
without a database that tells the system), or the only one that names the network is too old: missing, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError, Problem
from gateway.plugins.databases import DAMAGE, DAMAGED, NOT_FOUND, Database
from gateway.plugins.networks import KINDS, UNKNOWN, NetworkList, load_networks, number_of
from gateway.plugins.reloaded import Moment, ReloadedFile
from gateway.signals import Signal, View
from gateway.values import STRING, Missing, duration_text, set_of, timestamp_text

NOBODY: Final = Missing("no list of networks that is fresh enough, and no database of anonymous networks")
NO_ADDRESS: Final = Missing("no client address")
UNNAMED: Final = Missing("no list and no database names the network")
NO_SYSTEM: Final = Missing("a list names autonomous systems, but the system of the address is not known")
MISSING: Final = "no list or database can be asked, or only one names the network that is too old"
CONFOUNDER: Final = "remote workers' VPNs, programs in data centres, privacy relays, addresses that changed hands"


@dataclass(frozen=True, slots=True)
class Kinds:
    """Who says what of one network.

    labels: by kind, who says so. heard: whether anybody could be asked. reason: why silence would not mean «none», if so.
    """

    labels: Mapping[str, str]
    heard: bool = True
    reason: Missing | None = None

    @property
    def why(self) -> Missing | None:
        """Why nothing can be said, where nothing is; None where something is said, or everybody is silent."""
        return None if self.labels else self.reason or (None if self.heard else NOBODY)

    def most_telling(self) -> str | None:
        return next((kind for kind in KINDS if kind in self.labels), None)


NOTHING_SET: Final = Kinds({}, heard=False)


class NetworkLists:
    """The operator's lists, each read again when its file changes. Raises ConfigError with the problems of all of them."""

    def __init__(self, paths: Sequence[Path], moment: Moment | None = None) -> None:
        self._files: list[ReloadedFile[NetworkList]] = []
        self._moment = moment or Moment()
        problems: list[Problem] = []
        for path in paths:
            try:
                self._files.append(ReloadedFile(path, load_networks))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)

    def ask(self, ip: str, system: object, at: int) -> Kinds:
        """What the lists say of an address and its system (an AS number, or what stands for none) at a time (µs)."""
        self._moment.seen(at)
        address = number_of(ip)
        labels: dict[str, str] = {}
        reasons: list[Missing] = []
        heard = False
        for file in self._files:
            found = file.content
            named = found.names(address, system)
            if not found.speaks(at):
                reasons += [too_old(found)] if named else []
                continue
            heard = True
            if named:
                labels.setdefault(found.kind, found.label)
            elif found.systems and not isinstance(system, int) and system is not NOT_FOUND:
                reasons.append(NO_SYSTEM)
        return Kinds(labels, heard, reasons[0] if reasons else None)

    def refresh(self) -> None:
        for file in self._files:
            file.refresh()

    def health(self) -> dict[str, object]:
        """What each list is. A list that is too old by now is named in `note`; it says nothing any more."""
        lists, now = [file.content for file in self._files], self._moment.now()
        old = [too_old(found).reason for found in lists if not found.speaks(now)]
        problem = "; ".join(file.problem for file in self._files if file.problem)
        return {"lists": [_told(found) for found in lists], "note": "; ".join(old), "problem": problem}


def too_old(found: NetworkList) -> Missing:
    """Why a list that is past its time no longer speaks."""
    return Missing(f"the list {found.name} ({found.label}) is older than its max_age of {duration_text(found.max_age)}")


def _told(found: NetworkList) -> dict[str, object]:
    until = found.good_until
    told: dict[str, object] = {"name": found.name, "kind": found.kind, "networks": found.networks}
    told |= {"systems": len(found.systems), "is": found.label}
    return told if until is None else {**told, "good_until": timestamp_text(until)}


class Asked:
    """Everybody who can say something about a network. own: the databases that flag kinds beside what they are for."""

    def __init__(self, lists: NetworkLists | None, anonymous: Database | None, own: Sequence[Database]) -> None:
        self._lists, self._anonymous = lists, anonymous
        self._databases = [*([anonymous] if anonymous is not None else []), *own]

    def ask(self, view: View) -> Kinds:
        """What is said of the network of this exchange."""
        if self._lists is None and not self._databases:
            return NOTHING_SET
        ip = view.get("client.ip")
        if not isinstance(ip, str):
            return Kinds({}, heard=False, reason=ip if isinstance(ip, Missing) else NO_ADDRESS)
        said = self._lists.ask(ip, view.get("client.asn"), view.facts.at) if self._lists else Kinds({}, heard=False)
        labels, heard, reasons = dict(said.labels), said.heard, [said.reason]
        for database in self._databases:
            found, silence_tells = database.find(ip), database is self._anonymous
            mute = DAMAGE if found is DAMAGED else database.too_old(view.facts.at)
            if mute is not None:
                reasons += [mute] if found.kinds or (silence_tells and not heard) else []
                continue
            heard = heard or silence_tells
            for kind in found.kinds:
                labels.setdefault(kind, database.label)
        return Kinds(labels, heard, next(filter(None, reasons), None))

    def kinds(self, view: View) -> object:
        found = self.ask(view)
        return found.why or frozenset(found.labels)

    def kind(self, view: View) -> object:
        kinds = view.get("client.network_kinds")
        return next((kind for kind in KINDS if kind in kinds), UNKNOWN) if isinstance(kinds, frozenset) else kinds

    def source(self, view: View) -> object:
        found = self.ask(view)
        telling = found.most_telling()
        return found.labels[telling] if telling else found.why or UNNAMED


def signals(asked: Asked) -> list[Signal]:
    return [
        Signal("client.network_kind", STRING,
               f"the most telling kind of the network: {', '.join(KINDS)}; unknown where all who were asked are silent",
               asked.kind, missing=MISSING, confounder=CONFOUNDER),
        Signal("client.network_kinds", set_of(STRING), "every kind that a list or database gives the network", asked.kinds,
               missing=MISSING, confounder=CONFOUNDER),
        Signal("client.network_source", STRING, "which list or database gives it that kind, of what date", asked.source,
               missing="nobody names the network, or nobody can be asked"),
    ]  # fmt: skip
