"""What loading costs: a pack of 1,000 realistic rules read, checked, compiled and written out as Python, part by part.

    python -m tests.bench.compile [--rules 1000] [--rounds 3]

Times are CPU seconds of this process. The worst part is the longest that emitted code holds the interpreter while it is
compiled, which is what a running process could notice of a reload.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from gateway.engine import Engine
from gateway.language import emit
from gateway.language.compile import compile_nodes
from gateway.strict.document import parse
from tests.bench.forty import RULES, pack
from tests.judging import CATALOGUE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    copies = -(-options.rules // len(RULES))
    text = pack(copies).replace("}, {", "},\n{")
    rounds: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        found = work()
        rounds.setdefault(name, []).append(time.process_time() - started)
        return found

    for _ in range(options.rounds):
        node = timed("read YAML", lambda: parse(text, "bench.yaml"))
        found = timed("check and type", lambda node=node: compile_nodes([node], CATALOGUE))
        program = timed("write and compile Python", lambda found=found: emit.compiled(found, CATALOGUE))
        timed("make the engine ready", lambda found=found: Engine(found, CATALOGUE))
        longest = max(program.units, key=len)
        timed("(the longest part)", lambda longest=longest: compile(longest, "part", "exec"))
    total = sum(statistics.median(times) for name, times in rounds.items() if not name.startswith("("))
    print(f"{len(found.rules)} rules, {len(text) / 1e6:.2f} MB of pack, {len(program.units)} parts of Python")
    for name, times in rounds.items():
        print(f"{name:<28}{statistics.median(times) * 1e3:>9.1f} ms")
    print(f"{'in all':<28}{total * 1e3:>9.1f} ms; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
