"""Many text patterns looked for at once: one pass over a text says which of them cannot be in it.

The matcher never says that something matches: what it lets through is asked again by the leaf itself. So it can make an
evaluation faster and nothing else. It is one `re2.Set` over the patterns of all `contains` and `matches` leaves that look at
the same text, linear in the text's length whatever the patterns are, without a library that the operators do not need anyway.
(Hyperscan was measured several times as fast on long texts, but runs on x86 only; Aho-Corasick was no faster than the set.)

`starts_with` and `ends_with` are not gathered: each costs less than its share of a pass over the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import re2

from gateway.language.operators import Operand
from gateway.language.terms import Test

# One `contains` costs about 1/9 of a pass over 2 KB, one `matches` about 1/3 (tests/bench/rules.py --needles prints it).
_POINTS: Final = {"contains": 1, "matches": 3}
_WORTH: Final = 12
_MEMORY: Final = 16 * 1024 * 1024
Candidates = Callable[[str], frozenset[int]]


def gathered(tests: Sequence[Test]) -> Mapping[tuple[int, str], tuple[Test, ...]]:
    """The tests worth looking for together, by the source and the form of it they look at."""
    found: dict[tuple[int, str], list[Test]] = {}
    for test in tests:
        if test.leaf.operator.name in _POINTS and test.source.type.element is None:
            found.setdefault((test.source.number, test.look), []).append(test)
    return {key: tuple(same) for key, same in found.items() if sum(_POINTS[one.leaf.operator.name] for one in same) >= _WORTH}


def matcher(tests: Sequence[Test]) -> Candidates:
    """Which of these tests (by number) a text could pass; the others it cannot."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    patterns = re2.Set.SearchSet(options)
    for test in tests:
        operand: Any = test.leaf.operand
        literal = test.leaf.operator.operand is not Operand.PATTERN
        patterns.Add(re2.escape(_known(operand).decode()) if literal else operand.pattern)
    everywhere = patterns.Add("")
    patterns.Compile()
    every = frozenset(test.number for test in tests)
    numbers = [test.number for test in tests]

    def candidates(text: str) -> frozenset[int]:
        found = patterns.Match(_known(text))
        if everywhere not in found:  # the set ran out of memory: nothing is known, so everything is possible
            return every
        return frozenset([numbers[place] for place in found if place != everywhere])

    return candidates


def _known(text: str) -> bytes:
    """A text as UTF-8. Lone surrogates have none and become `?` on both sides, so that what was inside stays inside."""
    return text.encode("utf-8", "replace")
