"""What a process depends on, while it runs: the breakers of each dependency, and which of them fail now.

Owners tell their breakers what they meet; here it is only looked at: by the gate, for the record of an exchange and for what
is declared closed, by health, and by metrics. An exchange asks for one attribute. Breakers may be told from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.breaker import Breaker
from gateway.facts import Cause
from gateway.failing import CAUSE_OF, Dependency, Fail, FailModes

Check = Callable[[int], str]
_SHUTS_ALL: Final = (Dependency.GEO, Dependency.OTLP, Dependency.RECORDS)  # the others know whom their failure concerns


class Dependencies:
    """The dependencies of a process. modes: what is declared of them.

    failing: those of which something failed when it was last asked; replaced as a whole, so any thread may read it.
    """

    def __init__(self, modes: FailModes | None = None) -> None:
        self.modes = modes or FailModes()
        self.failing: frozenset[Dependency] = frozenset()
        self._breakers: dict[Dependency, dict[str, Breaker]] = {}
        self._checks: list[tuple[Dependency, Check]] = []
        self._full: Callable[[], bool] = lambda: False

    def watch(self, name: Dependency, where: str, breaker: Breaker) -> None:
        """Look at a breaker from now on. where: which one it is, such as an address; no secret."""
        self._breakers.setdefault(name, {})[where] = breaker
        breaker.changed = self._look
        self._look()

    def check(self, name: Dependency, check: Check) -> None:
        """Ask also this, for every exchange: why something fails at a time (µs), empty where it does not."""
        self._checks.append((name, check))

    def bound(self, full: Callable[[], bool]) -> None:
        """full: whether so many records wait for the disk that no more may be begun."""
        self._full = full

    def now(self, at: int) -> frozenset[Dependency]:
        """What fails at the time `at` (µs)."""
        if not self._checks:
            return self.failing
        found = [name for name, check in self._checks if check(at)]
        return self.failing.union(found) if found else self.failing

    def causes(self, failing: frozenset[Dependency]) -> list[Cause]:
        """For what of the failing every exchange is in trouble; a dependency that is declared open, or degrades, is none."""
        return [CAUSE_OF[name] for name in _SHUTS_ALL if name in failing and self._shuts(name)]

    def breakers(self) -> Iterator[tuple[Dependency, str, Breaker]]:
        """Every breaker, with what it is for and where that is."""
        for name, found in self._breakers.items():
            for where, breaker in found.items():
                yield name, where, breaker

    def ready(self, at: int) -> bool:
        """Whether nothing that fails makes the process refuse what it would otherwise pass."""
        return not any(self.modes.of(name) is Fail.CLOSED or self._shuts(name) for name in self.now(at))

    def health(self) -> Mapping[str, object]:
        """By dependency: what is declared, and each breaker."""
        found: dict[str, dict[str, object]] = {}
        for name, where, breaker in self.breakers():
            entry = found.setdefault(name, {"mode": str(self.modes.of(name))})
            entry[where] = breaker.health()
        return found

    def _shuts(self, name: Dependency) -> bool:
        mode = self.modes.of(name)
        return mode is Fail.CLOSED or (mode is Fail.DEGRADE and name is Dependency.RECORDS and self._full())

    def _look(self) -> None:
        self.failing = frozenset(name for name, found in self._breakers.items() if any(one.failing for one in found.values()))
