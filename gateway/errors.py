"""Every exception of Sluicegate, and the places they speak of.

    SluiceError
    ├── PolicyError      packs, lists or rule tests that cannot be loaded: all problems at once
    ├── ConfigError      gateway.yaml and the files it names: all problems at once
    ├── RecordError      a recorded exchange that cannot be read
    ├── ReplayError      a replayed answer that differs from the recorded one
    ├── StateError       shared state that did not answer
    └── ExtraError       something asked for that needs a package which is not installed

No other exception leaves the package on purpose. A decision never travels as an exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

# Of a URL: who asks, and a password, even one that is not escaped.
_ASKER: Final = re.compile(r"(?<=://)([^/\s]+|[^/\s:]*:(?!\d+/)\S*)@")
_PARAMETERS: Final = re.compile(r"(?<=\?)([^\s?/]*=\S*)")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file something stands. Lines and columns count from one; zero means the whole file."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        path = without_secrets(self.path) if "://" in self.path else self.path
        return f"{path}:{self.line}:{self.column}" if self.line else path


def without_secrets(text: str) -> str:
    """A text without what may open a door in the URLs in it: who asks, with a password, and parameters."""
    return _PARAMETERS.sub("…", _ASKER.sub("…@", text))


def secrets_of(url: str) -> list[str]:
    """What `without_secrets` takes out of a URL, piece by piece."""
    asker, parameters = _ASKER.search(url), _PARAMETERS.search(url)
    return [*(asker[1].split(":", 1) if asker else ()), *([parameters[1]] if parameters else ())]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file: where, what, and how to mend it."""

    place: Place
    message: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f"; {self.mend}" if self.mend else "")


class SluiceError(Exception):
    """Base of everything this package raises on purpose."""


class LoadError(SluiceError):
    """Files that cannot be loaded. `problems` holds every problem found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PolicyError(LoadError):
    """Packs, lists or rule tests that cannot be loaded."""


class ConfigError(LoadError):
    """A process configuration, or a file it names, that cannot be loaded."""


class RecordError(SluiceError):
    """A recorded exchange that cannot be read; `place` names the file and line."""

    def __init__(self, place: Place, message: str) -> None:
        self.place = place
        super().__init__(f"{place}: {message}")


class NotRecordedError(SluiceError):
    """A signal asked for something of an exchange that its record does not carry."""


class ReplayError(SluiceError):
    """A record evaluated again gave another answer than the one it holds."""


class StateError(SluiceError):
    """Shared state (Redis) did not answer, or answered with an error."""


class ExtraError(SluiceError):
    """Something that was asked for needs a package of an extra that is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs the {package} package; install sluicegate[{extra}]")


class ClusterError(SluiceError):
    """A cluster that cannot be reached, or has no workers."""


class NotInColumnsError(SluiceError):
    """Something of a policy or of its traffic that only the event engine computes. The text says what."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint naming the closest known word, or all of them when none is close and they are few.

    >>> did_you_mean("client.contry", ["client.country", "client.asn"])
    "did you mean 'client.country'?"
    """
    close = get_close_matches(word, known[:500], n=1, cutoff=0.6)  # it is slow, and a file may hold a thousand errors
    if close:
        return f"did you mean '{close[0]}'?"
    return "known here: " + ", ".join(known) if 0 < len(known) <= 12 else ""
