"""What signals cost: each alone and all together, on bodies of 2, 20 and 200 KB, against json.loads of the same body.

    python -m tests.bench.signals [--rounds 25] [--providers] [--each] [--linear] [--report]

`us` is cold: a fresh view, and facts made anew out of the bytes, so that nothing is remembered from the one before; what a
process keeps between requests of callers, texts, addresses and header lines is emptied too. Kept is what no process is without
after its first requests: which rows of the contradictions table speak of a kind of software, the hashes of common words
(`kinship`), and a hash begun with the key (`keyed`). `again` is the next exchange of the same connection: its texts are others,
all else was met before. Bodies are those of a chat and of an agent with tools, as they come from most serialisers, with
HTML escapes, and with every letter beyond ASCII escaped; and a chat that is not in Latin letters, written as it is. A row over
its budget is marked, and the exit status is then 1; with `--report` it is 0 all the same, for a machine that is slow or has
other work.
Times are the least of the rounds, because whatever else the machine does only adds to them; quote `ratio`, which is to
json.loads in the same run. `--providers` prints what each plugin costs
by itself, in µs and in bytes it allocates at most, on a body of each size; `--each` the same of every signal; `--linear`
doubles the bodies and prints how the time grows.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import _lru_cache_wrapper
from itertools import pairwise
from typing import Any, NamedTuple

from gateway.facts import Facts
from gateway.plugins.sender import Senders
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.web.intake import Body, Head, Intake

KEY = b"a key of the bench's own"
KEPT = ("gateway.plugins.kinship", "gateway.plugins.keyed")
SIZES = (2_000, 20_000, 200_000)
BUDGET = {2_000: 120, 20_000: 500, 200_000: 1_500}
WORDS = (
    "the test for list <div> & names fails: “expected” 3 rows, got ‘2’. Read src/app.py, line 42; naïve café → déjà vu.\n"
    "def run(x): return x if x > 0 else None\n"
)
BEYOND = (
    "このリストのテストが失敗します。「期待値」は三行ですが、二行しか返りません。пожалуйста, исправьте функцию; 请解释原因。\n"
)
HEADERS = (
    ("host", "gateway.example"), ("accept-encoding", "gzip, deflate"), ("connection", "keep-alive"),
    ("accept", "application/json"), ("content-type", "application/json"), ("user-agent", "OpenAI/Python 3.54.0"),
    ("x-stainless-lang", "python"), ("x-stainless-package-version", "3.54.0"), ("x-stainless-os", "Linux"),
    ("x-stainless-arch", "x64"), ("x-stainless-runtime", "CPython"), ("x-stainless-runtime-version", "3.11.7"),
    ("x-stainless-retry-count", "0"), ("authorization", "Bearer sk-bench"), ("x-forwarded-for", "8.8.4.4, 10.0.0.1"),
)  # fmt: skip


class Sample(NamedTuple):
    """One body: what it is, how it was written, its bytes."""

    name: str
    raw: bytes


def chat(size: int, words: str = WORDS) -> dict[str, Any]:
    """A conversation of several turns behind a system text. size: characters."""
    turns = max(2, min(40, size // 1_000))
    text = words * (size // turns // len(words) + 1)
    messages = [{"role": "user" if place % 2 == 0 else "assistant", "content": text[: size // turns]} for place in range(turns)]
    system = {"role": "system", "content": "You are a careful assistant. " + text[: size // 10]}
    return {"model": "large-2", "stream": True, "messages": [system, *messages], "temperature": 0.7, "max_tokens": 1024}


def agent(size: int) -> dict[str, Any]:
    """An agent's call: tools with schemas, tool calls and what they returned."""
    tools = [
        {"type": "function", "function": {"name": f"tool_{place}", "description": WORDS, "parameters": {"type": "object"}}}
        for place in range(max(1, size // 4_000))
    ]
    steps = max(1, size // 2_500)
    text = WORDS * (size // len(WORDS) + 1)
    messages: list[dict[str, Any]] = [{"role": "system", "content": text[: size // 8]}, {"role": "user", "content": WORDS}]
    for place in range(steps):
        call = {"id": f"call_{place}", "type": "function", "function": {"name": "tool_0", "arguments": '{"path": "a<b>.py"}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{place}", "content": text[: size // 2 // steps]})
    return {"model": "large-2", "messages": messages, "tools": tools, "max_tokens": 4096}


def samples(size: int) -> Iterator[Sample]:
    """The bodies of about one size."""
    for name, body in (("chat", chat(size)), ("agent", agent(size))):
        plain = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        html = plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        yield Sample(f"{name}, plain", plain.encode())
        yield Sample(f"{name}, HTML escaped", html.encode())
        yield Sample(f"{name}, ASCII", json.dumps(body).encode())
    beyond = json.dumps(chat(size * len(BEYOND) // len(BEYOND.encode()), BEYOND), ensure_ascii=False, separators=(",", ":"))
    yield Sample("chat, not ASCII", beyond.encode())


def caches() -> list[Callable[[], None]]:
    """What empties the caches that plugins keep between requests."""
    found: list[Callable[[], None]] = []
    for thing in gc.get_objects():
        module = str(getattr(thing, "__module__", ""))
        ours = isinstance(thing, _lru_cache_wrapper) and module.startswith("gateway") and module not in KEPT
        if ours and inspect.signature(thing).parameters:  # without parameters it holds a table, made once in a process
            found.append(thing.cache_clear)
        elif isinstance(thing, Senders):
            found.append(thing.clear)
    return found


class Bench:
    """One registry, and views made anew of the same bytes."""

    def __init__(self) -> None:
        self.registry: Registry = load_registry({"identity": {"hash_key": KEY}})
        self.intake = Intake(self.registry, KEY)
        self.names = [name for name, signal in self.registry.signals.items() if not signal.settled]
        self.clear = caches()

    def facts(self, raw: bytes, number: int = 0) -> Facts:
        head = Head("POST", "/v1/chat/completions", headers=HEADERS, peer="203.0.113.9", connection=str(number))
        found = self.intake.facts(head, Body(raw=raw), number)
        assert found.cause is None
        return found

    def fresh(self, facts: Facts) -> View:
        """A view of facts whose system text no cache has met, with nothing resolved."""
        for clear in self.clear:
            clear()
        call = facts.call
        assert call is not None
        return View(replace(facts, call=replace(call, system=f"{call.system}{time.perf_counter_ns()}")), self.registry.signals)

    def next(self, facts: Facts) -> View:
        """A view of the next exchange of the same connection: no text was met before, all else was."""
        call, mark = facts.call, str(time.perf_counter_ns())
        assert call is not None
        messages = tuple(replace(message, text=message.text + mark) for message in call.messages)
        return View(replace(facts, call=replace(call, system=call.system + mark, messages=messages)), self.registry.signals)

    def took(self, facts: Facts, names: list[str], rounds: int, again: bool = False) -> float:
        """µs for resolving these signals on a fresh view, or on that of the next exchange: the least."""
        taken = []
        for _ in range(rounds):
            view = self.next(facts) if again else self.fresh(facts)
            started = time.perf_counter_ns()
            for name in names:
                view.get(name)
            taken.append((time.perf_counter_ns() - started) / 1_000)
        return min(taken)

    def without(self, facts: Facts, names: list[str]) -> View:
        """A view in which all signals but these are resolved, and nothing else is remembered."""
        view = self.fresh(facts)
        for other in self.names:
            view.get(other)
        for name in names:
            view.resolved.pop(name, None)
        view.shared.clear()
        for clear in self.clear:
            clear()
        return view

    def own(self, facts: Facts, names: list[str], rounds: int) -> float:
        """µs of some signals where what they ask of others is there already: their own share, the least."""
        taken = []
        for _ in range(rounds):
            view = self.without(facts, names)
            started = time.perf_counter_ns()
            for name in names:
                view.get(name)
            taken.append((time.perf_counter_ns() - started) / 1_000)
        return min(taken)

    def providers(self) -> dict[str, list[str]]:
        """The signals of each plugin, by its module."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(self.registry.signals[name].resolve.__module__.removeprefix("gateway.plugins."), []).append(name)
        return found

    def peak(self, facts: Facts, names: list[str], alone: bool = False) -> int:
        """Most bytes allocated at once while these signals are resolved on a fresh view; alone: without what others provide."""
        view = self.without(facts, names) if alone else self.fresh(facts)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for name in names:
            view.get(name)
        most = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        return most


def parse(raw: bytes, rounds: int) -> float:
    """µs for json.loads: the least."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        json.loads(raw)
        taken.append((time.perf_counter_ns() - started) / 1_000)
    return min(taken)


def whole(bench: Bench, rounds: int) -> int:
    """Print all signals together for each body; returns how many are over their budget."""
    over = 0
    print(f"{'all signals':<24}{'bytes':>9}{'us':>9}{'json.loads':>12}{'ratio':>8}{'budget':>8}{'again':>8}{'peak bytes':>12}")
    for size in SIZES:
        for sample in samples(size):
            facts = bench.facts(sample.raw)
            took, loads = bench.took(facts, bench.names, rounds), parse(sample.raw, rounds)
            again = bench.took(facts, bench.names, rounds, again=True)
            cells = f"{took:>9.0f}{loads:>12.0f}{took / loads:>8.2f}{BUDGET[size]:>8}{again:>8.0f}"
            cells += f"{bench.peak(facts, bench.names):>12}"
            above = took > BUDGET[size]
            over += above
            print(
                f"{sample.name:<24}{len(sample.raw):>9}{cells}" + (f"  over by {took / BUDGET[size] - 1:.0%}" if above else "")
            )
    return over


def providers(bench: Bench, rounds: int) -> None:
    picked = [next(samples(size)) for size in SIZES]
    everything = [bench.facts(sample.raw) for sample in picked]
    heads = "".join(f"{f'{len(sample.raw) // 1000} KB us':>12}{'bytes':>10}" for sample in picked)
    print(f"\n{'provider (own share)':<24}{'signals':>8}{heads}")
    rows = []
    for provider, names in bench.providers().items():
        rows.append(
            (provider, names, [(bench.own(facts, names, rounds), bench.peak(facts, names, True)) for facts in everything])
        )
    for provider, names, costs in sorted(rows, key=lambda row: -row[2][0][0]):
        print(f"{provider:<24}{len(names):>8}" + "".join(f"{took:>12.1f}{most:>10}" for took, most in costs))


def each(bench: Bench, rounds: int) -> None:
    picked = [next(samples(size)) for size in SIZES] + [[*samples(SIZES[-1])][3]]
    everything = [bench.facts(sample.raw) for sample in picked]
    heads = "".join(f"{f'{len(sample.raw) // 1000} KB {sample.name[:5]}':>13}" for sample in picked)
    print(f"\n{'own share, us':<32}{heads}{'peak bytes':>12}")
    rows = [(name, [bench.own(facts, [name], rounds) for facts in everything]) for name in bench.names]
    for name, times in sorted(rows, key=lambda row: -row[1][-1]):
        print(f"{name:<32}" + "".join(f"{took:>13.1f}" for took in times) + f"{bench.peak(everything[-1], [name]):>12}")


def linear(bench: Bench, rounds: int) -> None:
    print("\ntime for twice the bytes (2 is linear; below it is bounded)")
    for place, name in enumerate(sample.name for sample in samples(SIZES[0])):
        found = [bench.facts([*samples(size)][place].raw) for size in (100_000, 200_000, 400_000, 800_000)]
        times = [bench.took(facts, bench.names, rounds) for facts in found]
        steps = "  ".join(f"x{after / before:.2f}" for before, after in pairwise(times))
        print(f"{name:<24}" + "".join(f"{took:>9.0f}" for took in times) + f"   {steps}")


def main() -> int:
    """The exit status: 1 where a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--providers", action="store_true")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--report", action="store_true", help="exit with 0 even if a budget is exceeded")
    options = parser.parse_args()
    bench = Bench()
    gc.collect()
    gc.freeze()
    gc.disable()  # what a request allocates is freed by counting
    over = whole(bench, options.rounds)
    if options.providers:
        providers(bench, options.rounds)
    if options.each:
        each(bench, options.rounds)
    if options.linear:
        linear(bench, options.rounds)
    if over:
        print(f"\n{over} of these rows are over their budget", file=sys.stderr)
    return 1 if over and not options.report else 0


if __name__ == "__main__":
    sys.exit(main())
