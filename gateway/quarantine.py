"""Quarantine: a rule that keeps failing is set aside for a while, loudly, so that it neither acts on and off nor hides.

A rule that ends as an error on `PATIENCE` exchanges in a row rests for `REST` and is then tried again; a single failure
sends it back. Time is the exchanges' own, so that a replay sets the same rules aside at the same moments. Which rules rest is
part of every record they would have ended in (they end as `error`), of health, and of the counts kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.decision import RuleEnd, Verdict
from gateway.values import SECOND, timestamp_text

PATIENCE: Final = 100
REST: Final = 60 * SECOND
MARK: Final = "quarantined: "


@dataclass(frozen=True, slots=True)
class _Rest:
    reason: str
    until: int


class Quarantine:
    """The rules of one policy that are set aside.

    tell: is told of every rule that begins to rest. errors: how often each rule ended as an error, resting or not.
    """

    def __init__(self, tell: Callable[[str], None] = lambda text: None) -> None:
        self.errors: dict[str, int] = {}
        self._tell = tell
        self._streaks: dict[str, int] = {}
        self._resting: dict[str, _Rest] = {}

    def resting(self, at: int) -> Mapping[str, str]:
        """The rules that rest at the time `at` (µs), each with the text their ends carry."""
        if not self._resting:
            return {}
        return {rule: MARK + rest.reason for rule, rest in self._resting.items() if at < rest.until}

    def note(self, ends: Iterable[RuleEnd], at: int) -> None:
        """Learn how the rules ended at the time `at` (µs)."""
        failed = [end for end in ends if end.verdict is Verdict.ERROR]
        if not failed and not self._streaks:
            return
        for end in failed:
            self.errors[end.rule] = self.errors.get(end.rule, 0) + 1
        self._streaks = {end.rule: self._streaks.get(end.rule, 0) + 1 for end in failed}
        for end in failed:
            rests = self._resting.get(end.rule)
            if (rests is None or at >= rests.until) and self._streaks[end.rule] >= PATIENCE:
                rest = self._resting[end.rule] = _Rest(end.error.removeprefix(MARK), at + REST)
                self._tell(f"rule {end.rule} is set aside until {timestamp_text(rest.until)}: {rest.reason}")
        for rule in [rule for rule, rest in self._resting.items() if rule not in self._streaks and at >= rest.until]:
            del self._resting[rule]

    def health(self) -> dict[str, object]:
        """Rules set aside or tried again without success so far, with the reason and until when; errors by rule."""
        resting = {rule: {"reason": rest.reason, "until": timestamp_text(rest.until)} for rule, rest in self._resting.items()}
        problem = f"set aside because they keep failing: {', '.join(sorted(resting))}" if resting else ""
        return {"quarantined": resting, "errors": dict(self.errors), "problem": problem}


def reason_of(error: str) -> str | None:
    """The text of a recorded end that came from quarantine, or None."""
    return error if error.startswith(MARK) else None
