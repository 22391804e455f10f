"""What deciding costs: forty rules on resolved signals, evidence included, against the tree walk, Cedar, CEL and Rego.

    python -m tests.bench.rules [--exchanges 200] [--rounds 7] [--needles]

Everything is asked the same exchanges in turns, in one process, after it was seen that all find the same rules. What the
others are given is a mapping of plain values, as the engine has resolved signals. Times are CPU time; quote the ratios.
`--needles` prints instead what decides when texts are scanned for many patterns at once.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import re2

from gateway.engine import Engine
from gateway.facts import Facts
from gateway.language.needles import matcher
from gateway.language.policy import Policy
from gateway.language.terms import Terms
from gateway.readings import rule_values
from gateway.signals import View
from gateway.state.operations import Reply
from tests.bench.forty import COUNTS, pack, traffic
from tests.bench.rivals import rivals
from tests.judging import CATALOGUE, START, policy

FEWER = 40  # exchanges that the slow ones are timed on
Case = tuple[str, Sequence[Any], Callable[[Any], Any]]


def exchange(engine: Engine, values: dict[str, Any]) -> tuple[View, Any, Reply]:
    """An exchange whose signals are resolved and whose measures are counted."""
    signals = {name: value for name, value in values.items() if name not in COUNTS}
    view = View.of(Facts(at=START, recorded=signals), CATALOGUE)
    prepared = engine.prepare(view)
    counts = {measure.label: values[name] for name, measure in named(engine.policy).items()}
    return view, prepared, Reply([counts.get(label, 0) for label in prepared.labels])


def named(found: Policy) -> dict[str, Any]:
    return {name: measure for rule in found.rules for name, measure in rule.measures.items()}


def decide(engine: Engine) -> Callable[[Any], Any]:
    """A whole decision on resolved signals: conditions, exemptions, corroboration, throttles, both views."""

    def ask(prepared: Any) -> Any:
        view, first, reply = prepared
        evaluated = engine.evaluate(view, first, reply)
        engine.throttles(view, evaluated)
        return engine.decide(evaluated, ())

    return ask


def walking(found: Policy) -> Engine:
    """The same engine on the tree walk that the program must agree with."""
    engine = Engine(found, CATALOGUE)
    rules = engine.rules.rules

    def run(get: Any, resolved: Any, measured: Any) -> list[tuple[int, bool | None]]:
        view = View(Facts(at=START, recorded=resolved), CATALOGUE, None, resolved)
        truths = [rule.when.evaluate(rule_values(rule, view, measured)) for rule in rules]
        return [(place, truth) for place, truth in enumerate(truths) if truth is not False]

    engine.rules.run = run
    return engine


def matched(decision: Any) -> frozenset[str]:
    return frozenset(end.rule for end in decision.matches())


def measure(cases: Sequence[Case], rounds: int) -> dict[str, float]:
    """Microseconds of CPU per exchange, the median of rounds; every round asks all of them in turn."""
    taken: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name, prepared, ask in cases:
            started = time.process_time()
            for one in prepared:
                ask(one)
            taken[name].append((time.process_time() - started) / len(prepared) * 1e6)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--needles", action="store_true", help="print what scanning texts costs instead")
    options = parser.parse_args()
    if options.needles:
        return needles()
    found = policy(pack())
    engine, walker, sent = Engine(found, CATALOGUE), walking(found), list(traffic(options.exchanges))
    ours, walked = [exchange(engine, values) for values in sent], [exchange(walker, values) for values in sent]
    expected = [matched(decide(engine)(one)) for one in ours]
    assert expected == [matched(decide(walker)(one)) for one in walked], "the tree walk finds other rules"
    quiet = [one for one, rules in zip(ours, expected, strict=True) if not rules]
    loud = [one for one, rules in zip(ours, expected, strict=True) if rules]
    values = [engine.evaluate(*one).values for one in ours]
    run = engine.rules.run
    program: list[Any] = [(one[0].get, one[0].resolved, measured) for one, measured in zip(ours, values, strict=True)]
    cases: list[Case] = [
        ("decision", ours * 20, decide(engine)),
        ("  where no rule matched", quiet * 20, decide(engine)),
        ("  where rules matched", loud * 20, decide(engine)),
        ("the emitted pass alone", program * 20, lambda one: run(*one)),
        ("tree walk", walked, decide(walker)),
    ]
    for name, prepare, ask in rivals():
        flat = [prepare(values) for values in sent]
        assert [ask(one) for one in flat] == expected, f"{name} finds other rules"
        cases.append((name, flat[:FEWER], ask))
    matches, met = sum(map(len, expected)), len(loud)
    print(f"{len(found.rules)} rules, {len(sent)} exchanges, {matches} matches in {met} of them, the same in all")
    times = measure(cases, options.rounds)
    print(f"{'':<36}{'us':>10}{'x decision':>12}")
    for name, took in times.items():
        print(f"{name:<36}{took:>10.2f}{took / times['decision']:>12.1f}")
    return None


def needles() -> None:
    """One pass for all patterns against asking each, by length of text and number of patterns."""
    draw = random.Random(7)
    words = ["".join(draw.choice("aeioulmnrst") for _ in range(6)) for _ in range(2_000)]
    print(f"{'text':>8}{'patterns':>10}{'each in':>10}{'each re2':>10}{'one pass':>10}  us")
    for size in (30, 200, 2_000, 20_000):
        text = " ".join(draw.choice(words) for _ in range(size // 7 + 1))[:size]
        for count in (1, 4, 12, 48):
            literals = [draw.choice(words) + "zz" for _ in range(count)]
            leaves = [{"request.path": {"contains": literal}} for literal in literals]
            patterns = [re2.compile(literal[:4] + r"\w*q+" + literal[4:]) for literal in literals]
            tests = Terms.of(policy(_searching(leaves)).rules, CATALOGUE).tests.values()
            scan = matcher(list(tests))
            times = measure(
                [
                    ("in", [text] * 200, lambda value, literals=literals: [literal in value for literal in literals]),
                    ("re2", [text] * 200, lambda value, p=patterns: [one.search(value.encode()) for one in p]),
                    ("pass", [text] * 200, scan),
                ],
                5,
            )
            print(f"{size:>8}{count:>10}{times['in']:>10.2f}{times['re2']:>10.2f}{times['pass']:>10.2f}")


def _searching(leaves: list[dict[str, Any]]) -> str:
    rules = "".join(
        f"  - {{id: b.r{n}, title: t, family: client, owner: o, mode: enforce, then: {{action: observe}}, when: {leaf}}}\n"
        for n, leaf in enumerate(leaves)
    )
    return f"pack: b\nversion: 1\nlanguage: 1\nrules:\n{rules}"


if __name__ == "__main__":
    main()
