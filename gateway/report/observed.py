"""The one thing reports are fed with: a judged exchange, whichever engine judged it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.decision import Action, Outcome
from gateway.facts import Answer, Cause
from gateway.language.conditions import Values
from gateway.language.policy import Rule

NOBODY = "(no account)"


class Observed(NamedTuple):
    """One judged exchange as reports see it.

    at: µs since 1970. account: `NOBODY` where none is known. org: None where none is known. label: the record's own. signal:
    the value of a signal by its name (typed, `Missing` or `Failed`). values: what the names in a rule stand for, its measures
    included. An engine hands these two in as functions, because few exchanges are asked for few of them. answer: what the
    caller was answered, or would have been. unrecorded: whether its record does not hold a signal, by its name; missing:
    whether it says that there is none.
    """

    at: int
    account: str
    org: str | None
    label: str | None
    outcome: Outcome
    signal: Callable[[str], object]
    values: Callable[[Rule], Values]
    answer: Answer = Answer()
    unrecorded: Callable[[str], bool] = lambda name: False
    missing: Callable[[str], bool] = lambda name: False

    def text(self, name: str) -> str | None:
        """The value of a signal as text; None where there is none."""
        value = self.signal(name)
        return value if isinstance(value, str) and value else None

    @property
    def turned_away(self) -> Cause | None:
        """Why it was refused before any rule or limit could have been asked, if it was."""
        refusal = self.outcome.refusal
        return self.outcome.cause if refusal is not None and refusal.by[0].startswith("intake:") else None

    @property
    def by_policy(self) -> tuple[Action, Action]:
        """What rules and limits did, and would do: an unreadable request says nothing of its account."""
        outcome = self.outcome
        full = Action.THROTTLE if any(not room.allowed for room in outcome.rooms) else Action.ALLOW
        would = max(outcome.decision.would, full)
        if outcome.cause is None and not outcome.state_error:
            would = outcome.would  # with the limits that refuse because their key is missing
        return (outcome.decision.action if self.turned_away is not None else outcome.action), would
