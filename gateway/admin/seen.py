"""On whom something was done since the start, as the admin listener shows it.

Noted while decisions settle, for actions from tag on, which are few, and bounded: past `MOST` accounts the one that was left
alone longest is forgotten, and answers say that there were more. The ledger forgets nobody; this is a look, not the record.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.decision import Action
from gateway.facts import Answer
from gateway.judgement import Judgement

MOST: Final = 10_000
RULES: Final = 32


@dataclass(slots=True)
class Acted:
    """What was done on one account. first, seen: µs since 1970; last: the reference of the last decision."""

    first: int
    seen: int = 0
    last: str = ""
    actions: Counter[Action] = field(default_factory=Counter)
    rules: list[str] = field(default_factory=list)


class Seen:
    """A sink of settled judgements. forgotten: accounts that had to make room."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, Acted] = OrderedDict()
        self.forgotten = 0

    def __call__(self, judgement: Judgement, answer: Answer) -> None:
        """Note one settled judgement."""
        outcome = judgement.outcome
        account = judgement.view.resolved.get("account.id")
        if outcome.action < Action.TAG or not isinstance(account, str):
            return
        acted = self._known.get(account)
        if acted is None:
            acted = self._known[account] = Acted(judgement.facts.at)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
                self.forgotten += 1
        self._known.move_to_end(account)
        acted.seen, acted.last = judgement.facts.at, outcome.reference
        acted.actions[outcome.action] += 1
        by = [end.rule for end in outcome.decision.matches()]
        acted.rules += [rule for rule in dict.fromkeys(by) if rule not in acted.rules][: RULES - len(acted.rules)]

    def get(self, account: str) -> Acted | None:
        """What was done on an account, None for nothing."""
        return self._known.get(account)

    def latest(self, action: Action | None = None) -> Iterator[tuple[str, Acted]]:
        """The accounts on whom this was done (None: anything), the latest first."""
        for account, acted in reversed(self._known.items()):
            if action is None or action in acted.actions:
                yield account, acted
