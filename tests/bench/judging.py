"""What judging costs inside the process, part by part: all shipped packs against a policy without rules, on 2 KB chats.

    python -m tests.bench.judging [--exchanges 1000] [--rounds 5] [--profile]

A thousand accounts of known client libraries, and twenty that fill one template after the other. Both judge on one gate whose
windows have seen the others before. An exchange goes through the parts as the gate drives them, each part for all exchanges at
once, so that the timer is not measured with them: facts (the intake), signals (every one the policy resolves), prepare (keys,
filters and amounts of what is counted), apply (the state), rules, throttles, enforcement, settle, record (one line of JSON).
`judge` is the gate's own way through all of it, from facts to outcome. Times are CPU time, the least of the rounds; quote the
shares, and the ratio to the policy without rules in the same run.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.audit.lines import line
from gateway.audit.record import record
from gateway.decision import Room
from gateway.enforcement import Trouble, enforce
from gateway.engine import Engine
from gateway.facts import Answer, Facts, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.state.memory import MemoryState
from gateway.web.intake import Body, Head, Intake
from tests.judging import START, policy

KEY: Final = b"a key of the bench's own"
RULES: Final = Path(__file__).parents[2] / "rules"
EMPTY: Final = "pack: none\nversion: 1\nlanguage: 1\n"
DAY: Final = 86_400_000_000
STEP: Final = 20_000  # µs between two exchanges: fifty a second
WARM: Final = 4_000
AGENTS: Final = (
    ("OpenAI/Python 1.54.0", "python", "1.54.0", "CPython", "3.11.7"),
    ("OpenAI/Python 1.40.2", "python", "1.40.2", "CPython", "3.12.1"),
    ("OpenAI/JS 4.68.1", "js", "4.68.1", "node", "v20.9.0"),
    ("OpenAI/JS 4.52.0", "js", "4.52.0", "node", "v18.19.0"),
)
WORDS: Final = [
    f"{first}{last}"
    for first in ("ord", "inv", "ship", "cust", "del", "upd", "sched")
    for last in ("er", "oice", "ment", "omer", "ay")
]
ANSWER: Final = Answer(200, Usage(512, 180), model="large-2", first_byte=210_000, duration=1_400_000)


class Sent(NamedTuple):
    """One exchange as it comes in."""

    head: Head
    body: bytes
    account: dict[str, Any]


def _sent(number: int, kind: str, system: str, text: str, more: dict[str, Any]) -> Sent:
    agent, lang, version, runtime, runtime_version = AGENTS[number % len(AGENTS)]
    body = {"model": "large-2", "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}], **more}
    headers = (
        ("host", "gateway.example"), ("accept-encoding", "gzip, deflate"), ("connection", "keep-alive"),
        ("accept", "application/json"), ("content-type", "application/json"), ("user-agent", agent),
        ("x-stainless-lang", lang), ("x-stainless-package-version", version), ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"), ("x-stainless-runtime", runtime), ("x-stainless-runtime-version", runtime_version),
        ("x-stainless-retry-count", "0"), ("authorization", f"Bearer sk-{kind}-{number}"),
    )  # fmt: skip
    address = f"198.{18 + number % 2}.{number // 250 % 250}.{number % 250 + 1}"
    head = Head("POST", "/v1/chat/completions", headers=headers, peer=address, connection=f"{address}:{40_000 + number}")
    account = {"id": f"{kind}-{number}", "org": f"{kind}-org-{number // 4}", "age": (90 + number % 700) * DAY, "plan": "team"}
    return Sent(head, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), account)


def known(seed: int) -> Iterator[Sent]:
    """Callers of a thousand accounts: an application each, with a system text of its own and what its users say."""
    draw = random.Random(seed)
    while True:
        number = draw.randrange(1_000)
        about = random.Random(number)
        system = f"You answer for team {number}. " + " ".join(about.choices(WORDS, k=60))
        text = " ".join(draw.choices(WORDS, k=190))
        yield _sent(
            number, "known", system, text, {"temperature": 0.2 + number % 7 / 10, "max_tokens": 800, "stream": number % 2 == 0}
        )


def harvesting(seed: int) -> Iterator[Sent]:
    """Twenty accounts that fill one template after the other and ask for reasoning."""
    draw = random.Random(seed)
    while True:
        number = draw.randrange(20)
        slot = " ".join(draw.choices(WORDS, k=150))
        text = (
            "Solve the problem step by step, explain your reasoning in full, then give the final answer after 'Answer:'.\n\n"
            f"### Problem\n{slot}\n\n### Reasoning\n"
        )
        system = "You write training examples. Generate 5 different questions with answers."
        yield _sent(number, "harvest", system, text, {"temperature": 1.0, "max_tokens": 4_000})


KINDS: Final[dict[str, Callable[[int], Iterator[Sent]]]] = {"known callers": known, "harvesting": harvesting}


class Lane:
    """One policy on a gate of its own, warm."""

    def __init__(self, registry: Registry, found: Policy) -> None:
        self.registry, self.intake = registry, Intake(registry, KEY)
        self.gate = Gate(found, registry.signals, state=MemoryState())
        self.engine: Engine = self.gate._engine
        self.at = START
        self.lines: list[bytes] = []
        self.gate.sink = lambda judgement, answer: self.lines.append(line(record(judgement, answer)))
        self.names: dict[str, list[str]] = {}
        streams = {name: kind(1) for name, kind in KINDS.items()}
        for number in range(WARM):
            name = [*KINDS][number % 10 == 9]
            judgement = self.gate.judge(self.facts(next(streams[name])))
            self.gate.settle(judgement, ANSWER)
            settled = [one for one in judgement.view.resolved if not registry.signals[one].settled]
            self.names[name] = list(dict.fromkeys([*self.names.get(name, []), *settled]))
        self.lines.clear()

    def facts(self, sent: Sent) -> Facts:
        self.at += STEP
        return self.intake.facts(sent.head, Body(raw=sent.body), self.at, sent.account)

    def whole(self, sent: Sequence[Sent]) -> dict[str, float]:
        """Seconds of CPU of the gate's own way, and of all of it with facts and records."""
        facts: list[Facts] = []
        taken = {}
        judged: list[Judgement] = []
        self.gate.sink = lambda judgement, answer: None
        taken["facts"] = timed(lambda: facts.extend(map(self.facts, sent)))
        taken["judge"] = timed(lambda: judged.extend(map(self.gate.judge, facts)))
        taken["settle"] = timed(lambda: self._settle(judged))
        taken["record"] = timed(lambda: self.lines.extend([line(record(one, ANSWER)) for one in judged]))
        return taken

    def _settle(self, judged: Sequence[Judgement]) -> None:
        for one in judged:
            self.gate.settle(one, ANSWER)

    def parts(self, name: str, sent: Sequence[Sent]) -> dict[str, float]:
        """Seconds of CPU per part, driven as the gate drives them."""
        engine, state, names = self.engine, self.gate.state, self.names[name]
        assert isinstance(state, MemoryState)
        facts = list(map(self.facts, sent))
        views = [View.of(one, self.registry.signals) for one in facts]
        taken: dict[str, float] = {}
        taken["signals"] = timed(lambda: [view.get(one) for view in views for one in names])
        found: dict[str, list[Any]] = {}

        def part(part: str, work: Callable[[], list[Any]]) -> None:
            taken[part] = timed(lambda: found.update({part: work()}))

        part("prepare", lambda: [engine.prepare(view) for view in views])
        part("apply", lambda: [state.apply(one.batch) for one in found["prepare"]])
        steps = [*zip(views, found["prepare"], found["apply"], strict=True)]
        part("rules", lambda: [engine.evaluate(*one) for one in steps])
        pairs = [*zip(views, found["rules"], strict=True)]
        part("throttles", lambda: [(one, state.apply(one) if one else None) for one in (engine.throttles(*p) for p in pairs)])
        rooms: list[list[Room]] = [reply.rooms if reply else [] for _, reply in found["throttles"]]
        ended = [*zip(found["rules"], rooms, strict=True)]
        part("decide", lambda: [engine.decide(*one) for one in ended])
        all_of_it = [*zip(found["decide"], found["rules"], found["prepare"], rooms, facts, strict=True)]
        part("enforce", lambda: [enforce(*one[:4], Trouble(), one[4].at) for one in all_of_it])
        return taken


def timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def least(rounds: Sequence[dict[str, float]], count: int) -> dict[str, float]:
    """Microseconds per exchange, the least of the rounds."""
    return {part: min(one[part] for one in rounds) / count * 1e6 for part in rounds[0]}


def profile(lane: Lane, sent: Sequence[Sent]) -> None:
    """Where the time of judging goes, by function."""
    facts = list(map(lane.facts, sent))
    profiler = cProfile.Profile()
    profiler.enable()
    for one in facts:
        lane.gate.settle(lane.gate.judge(one), ANSWER)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print instead which functions take the time")
    options = parser.parse_args()
    registry = load_registry({"identity": {"hash_key": KEY}})
    found = load([RULES], registry.signals)
    lanes = {"all packs": Lane(registry, found), "no rules": Lane(registry, policy(EMPTY))}
    gc.collect()
    gc.freeze()
    gc.disable()  # what a request allocates is freed by counting
    for name, kind in KINDS.items():
        stream = kind(2)
        if options.profile:
            profile(lanes["all packs"], [next(stream) for _ in range(options.exchanges)])
            continue
        whole: dict[str, list[dict[str, float]]] = {lane: [] for lane in lanes}
        parts: list[dict[str, float]] = []
        for _ in range(options.rounds):
            sent = [next(stream) for _ in range(options.exchanges)]
            for lane, one in lanes.items():
                whole[lane].append(one.whole(sent))
            parts.append(lanes["all packs"].parts(name, [next(stream) for _ in range(options.exchanges)]))
        took = {lane: least(rounds, options.exchanges) for lane, rounds in whole.items()}
        total, empty = (sum(took[lane].values()) for lane in lanes)
        inside = least(parts, options.exchanges)
        inside["the rest of judge"] = took["all packs"]["judge"] - sum(inside.values())
        matched = sum(b'"verdict":"match"' in one for one in lanes["all packs"].lines[-options.exchanges :])
        size = sum(len(one.body) for one in sent) // len(sent)
        print(f"\n{name}: {options.exchanges} exchanges of {size} bytes, {len(found.rules)} rules; {matched} met one or more")
        print(f"{'':<24}{'us':>9}{'share':>8}{'no rules':>10}")
        for part, us in took["all packs"].items():
            print(f"{part:<24}{us:>9.1f}{us / total:>8.1%}{took['no rules'][part]:>10.1f}")
            for within, cost in inside.items() if part == "judge" else ():
                print(f"  {within:<22}{cost:>9.1f}{cost / total:>8.1%}")
        print(f"{'in all':<24}{total:>9.1f}{'':>8}{empty:>10.1f}   {total / empty:.2f} times a policy without rules")


if __name__ == "__main__":
    main()
