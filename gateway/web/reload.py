"""The policy loaded again while requests are served: whole or not at all, and without holding anybody up.

Reading, checking and compiling happen in a thread of their own that works in short stints, however deep in the work it is
(`door.politely`).

What is put in force is complete by then. Counters go on, running exchanges end under the policy that judged them, and what
cannot be loaded changes nothing but the health of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.engine import under
from gateway.errors import LoadError
from gateway.gate import Gate
from gateway.incidents import report
from gateway.language.compile import load, pack_files
from gateway.language.emit import compiled
from gateway.language.lint import lint
from gateway.language.policy import Policy
from gateway.values import timestamp_text
from gateway.web.door import politely

Stamps = dict[Path, tuple[int, ...] | None]


class Reloader:
    """Puts the policy of these paths in force again when asked to.

    clock: µs since 1970. source: the gateway.yaml that named the paths, if one did; a reload reads nothing else of it. problem:
    why the last reload was refused, empty when it was not. notices: what the gate had to say of the policy it took. loaded_at:
    when the policy in force was loaded. count: reloads that were put in force.
    """

    def __init__(self, gate: Gate, paths: Sequence[Path], clock: Callable[[], int], source: str = "") -> None:
        self.problem = ""
        self.notices: tuple[str, ...] = ()
        self._source = Path(source) if source else None
        self._settings = _bytes_of(self._source)
        self.loaded_at = clock()
        self.count = 0
        self._gate, self._paths, self._clock = gate, paths, clock
        self._stamps: Stamps = {}
        self._running: asyncio.Task[bool] | None = None
        self._again = False

    async def watch(self, every: float) -> None:
        """Reload whenever a file changed that the policy is read from, once nothing more changes; every: seconds of a look.

        Files are compared by what the system says of them. Two looks that find the same come before a reload, so that somebody
        who still copies files is not met half way. What was refused is not read again before it changes.
        """
        before = self._stamps = await asyncio.to_thread(self._stamped)
        while True:
            await asyncio.sleep(every)
            now = await asyncio.to_thread(self._stamped)
            if now == before and now != self._stamps:
                await self.ask()
            before = now

    def ask(self) -> asyncio.Task[bool]:
        """Reload soon. A request during a reload has the files read once more after it."""
        if self._running is not None and not self._running.done():
            self._again = True
            return self._running
        self._running = asyncio.ensure_future(self.reload())
        return self._running

    async def reload(self) -> bool:
        """Load the policy and put it in force; whether that was done. Reports what became of it."""
        while True:
            self._again = False
            done = await self._once()
            if not self._again:
                return done

    async def _once(self) -> bool:
        gate = self._gate
        self._stamps = await asyncio.to_thread(self._stamped)
        try:
            policy = await asyncio.to_thread(politely, self._prepared)
            self.notices = tuple(gate.use(policy))
            now = await asyncio.to_thread(self._stamped)  # its lists may be others than those of the one before
            self._stamps = {file: self._stamps.get(file, stamp) for file, stamp in now.items()}
        except LoadError as error:
            return self._refused(str(error))
        except Exception as error:  # whatever a file makes the loader do, the process goes on with the policy it has
            return self._refused(f"{type(error).__name__}: {error}")
        self.problem, self.loaded_at, self.count = "", self._clock(), self.count + 1
        loaded = f"policy loaded again: {_named(policy)}, {len(policy.rules)} rules"
        report("policy.loaded", "\n".join([loaded, *self.notices]))
        for finding in await asyncio.to_thread(politely, lambda: self._judged(policy)):
            report("policy.finding", finding)
        return True

    def health(self) -> dict[str, object]:
        """When the policy in force was loaded, and why a newer one was refused."""
        told: dict[str, object] = {"loaded_at": timestamp_text(self.loaded_at), "reloads": self.count}
        return {**told, "problem": self.problem, "notices": list(self.notices)}

    def _stamped(self) -> Stamps:
        """What the system says of each file that the policy is read from, None where it is not there."""
        lists = (Path(found.place.path) for found in self._gate.policy.lists.values())
        return {file: _stamp(file) for file in (*pack_files(self._paths), *lists)}

    def _prepared(self) -> Policy:
        """The policy, ready to be put in force."""
        policy = load(self._paths, self._gate.catalogue)
        compiled(under(policy, self._gate.mode), self._gate.catalogue)  # remembered, so that `use` finds it done
        for meant in (self._gate.policy, policy):
            self._gate.versions.learn(meant)  # likewise
        return policy

    def _judged(self, policy: Policy) -> list[str]:
        """What there is to say of a policy that is in force already: its findings, as at the start."""
        told = [finding.line for finding in lint(policy, today=self._clock(), catalogue=self._gate.catalogue)]
        if self._source is not None and _bytes_of(self._source) != self._settings:
            told.append(f"{self._source}: changed since the start; a reload reads the packs only, restart for its settings")
        return told

    def _refused(self, why: str) -> bool:
        self.problem = why
        kept = _named(self._gate.policy)
        report("policy.refused", f"policy not loaded, {kept} stays in force:\n{why}")
        return False


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _bytes_of(file: Path | None) -> bytes | None:
    """What stands in a file; nothing where it cannot be read."""
    try:
        return file.read_bytes() if file is not None else None
    except OSError:
        return None


def _named(policy: Policy) -> str:
    return f"{policy.digest[:19]}… version {policy.version}"
