"""The sweep: every mutant of a policy against the rule tests that could notice it.

A mutant is killed by the first case in which something that the case expects of the changed rule or limit no longer holds.
Cases that name neither cannot notice and are not run; of the others the one that killed last comes first, then the cheapest.
Each case runs on as few rules as give it its result: those it names and those that match somewhere in it (only a match can
corroborate or refuse); where that is not enough, on all. Mutants are dealt out among processes, those of one rule together.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.facts import End
from gateway.language.policy import Policy
from gateway.replay.altered import Seen
from gateway.replay.cases import Accepted, Case, Tests, exchanges
from gateway.replay.mutants import Mutant, mutants
from gateway.replay.played import Exchanges, Played, play, prepared, rebuilt
from gateway.replay.rule_tests import Results, complaints, narrowed
from gateway.signals import Catalogue

Tick = Callable[[int, int], None]
_FORKS: Final = "fork" in multiprocessing.get_all_start_methods()
_LOOK_AGAIN: Final = 1.0  # seconds, after which a process that does not answer may have died


@dataclass(frozen=True, slots=True)
class Sweep:
    """What became of the mutants.

    survivors: killed by no case and not accepted. accepted: killed by no case, as their test file says, with the reason. stale:
    accepted mutants that a case kills, or that do not exist.
    """

    mutants: int
    survivors: tuple[Mutant, ...]
    accepted: tuple[tuple[Mutant, Accepted], ...]
    stale: tuple[Accepted, ...]

    @property
    def killed(self) -> int:
        """How many mutants some case noticed."""
        return self.mutants - len(self.survivors) - len(self.accepted)

    @property
    def clean(self) -> bool:
        """Whether there were mutants, and no finding among them."""
        return bool(self.mutants) and not self.survivors and not self.stale


def sweep(
    tests: Tests, results: Results, policy: Policy, catalogue: Catalogue, tick: Tick | None = None, jobs: int = 1
) -> Sweep:
    """Run every mutant. results: of the same tests on the policy itself, which must have passed.

    tick: told how many mutants are done, and of how many. jobs: among how many processes, where processes can be forked.
    """
    runner = _Runner(policy, catalogue, tests.cases, results.played)
    found = mutants(policy, catalogue, runner.seen)
    reasons = {accepted.mutant: accepted for accepted in tests.accepted}
    killed: set[int] = set()
    with closing(_dealt(runner, found, jobs) if jobs > 1 and _FORKS else _in_turn(runner, found)) as told:
        for done, (place, dead) in enumerate(told, 1):
            if dead:
                killed.add(place)
            if tick is not None:
                tick(done, len(found))
    alive = [mutant for place, mutant in enumerate(found) if place not in killed]
    names = {mutant.id for mutant in alive}
    return Sweep(
        len(found),
        tuple(mutant for mutant in alive if mutant.id not in reasons),
        tuple((mutant, reasons[mutant.id]) for mutant in alive if mutant.id in reasons),
        tuple(accepted for accepted in tests.accepted if accepted.mutant not in names),
    )


def _in_turn(runner: _Runner, found: Sequence[Mutant]) -> Generator[tuple[int, bool], None, None]:
    """The place of each mutant and whether a case kills it."""
    for place, mutant in enumerate(found):
        yield place, runner.kills(mutant)


def _dealt(runner: _Runner, found: Sequence[Mutant], jobs: int) -> Generator[tuple[int, bool], None, None]:
    """The same, as several processes find out. A fork has all that it needs already.

    Raises RuntimeError where one of them ends early.
    """
    shares: defaultdict[str, list[int]] = defaultdict(list)
    for place, mutant in enumerate(found):
        shares[mutant.subject].append(place)
    context = multiprocessing.get_context("fork")
    tasks, told = context.Queue(), context.Queue()
    processes = [context.Process(target=_work, args=(runner, found, tasks, told), daemon=True) for _ in range(jobs)]
    for share in [*sorted(shares.values(), key=len, reverse=True), *([] for _ in processes)]:
        tasks.put(share)
    for process in processes:
        process.start()
    try:
        for _ in found:
            yield _heard(told, processes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(runner: _Runner, found: Sequence[Mutant], tasks: Any, told: Any) -> None:
    while share := tasks.get():
        for place in share:
            told.put((place, runner.kills(found[place])))


def _heard(told: Any, processes: Sequence[Any]) -> tuple[int, bool]:
    while True:
        try:
            heard: tuple[int, bool] = told.get(timeout=_LOOK_AGAIN)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a process of the sweep ended early; try again with --jobs 1") from None
        else:
            return heard


@dataclass(slots=True)
class _Runner:
    policy: Policy
    catalogue: Catalogue
    cases: Sequence[Case]
    ran: Sequence[Played]
    _made: dict[int, Exchanges] = field(default_factory=dict)
    _lean: dict[int, Policy] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def seen(self, names: frozenset[str]) -> Seen:
        """The values of a signal that the cases of some rules or limits give."""

        def values(signal: str) -> frozenset[object]:
            able = [index for index, case in enumerate(self.cases) if case.expected.names & names]
            given = (facts.recorded or {} for index in able for facts, _ in self.exchanges(index))
            found = {one[signal] for one in given if signal in one}
            return frozenset(item for value in found for item in (value if isinstance(value, frozenset) else (value,)))

        return values

    def exchanges(self, index: int) -> Exchanges:
        if index not in self._made:
            self._made[index] = list(exchanges(self.cases[index], self.catalogue))
        return self._made[index]

    def kills(self, mutant: Mutant) -> bool:
        """Whether some case notices the mutant."""
        able = [index for index, case in enumerate(self.cases) if case.expected.names & mutant.names]
        for index in sorted(able, key=lambda index: (index != self._last.get(mutant.subject), self.cases[index].size)):
            if self._notices(index, mutant):
                self._last[mutant.subject] = index
                return True
        return False

    def _notices(self, index: int, mutant: Mutant) -> bool:
        case, base = self.cases[index], self.lean(index)
        changed = rebuilt(
            replace(base, lists={**base.lists, **mutant.lists}),
            (mutant.rules.get(rule.id, rule) for rule in base.rules),
            (mutant.limits.get(plan.limit.id, plan) for plan in base.limits),
        )
        played = play(self.exchanges(index), prepared(changed, case), self.catalogue)
        named = case.expected.names & mutant.names
        return any(True for name in named for _ in complaints(narrowed(case.expected, name), played))

    def lean(self, index: int) -> Policy:
        """As much of the policy as gives a case its result."""
        if index not in self._lean:
            self._lean[index] = self._smaller(index)
        return self._lean[index]

    def _smaller(self, index: int) -> Policy:
        case, whole = self.cases[index], self.ran[index]
        rules = [rule for rule in self.policy.rules if rule.id in case.expected.names or whole.matched.get(rule.id)]
        refused = any(answer.end is End.REFUSED for answer in whole.answers)
        limits = [plan for plan in self.policy.limits if refused or plan.limit.id in case.expected.names]
        if len(rules) == len(self.policy.rules) and len(limits) == len(self.policy.limits):
            return self.policy
        smaller = rebuilt(self.policy, rules, limits)
        played = play(self.exchanges(index), prepared(smaller, case), self.catalogue)
        return self.policy if list(complaints(case.expected, played)) else smaller
