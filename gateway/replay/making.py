"""What exchanges are made with: the intake, the catalogue, the account directory, and which field of a log tells what."""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.errors import Place
from gateway.facts import Facts, Freshness
from gateway.replay.exchange import UnansweredError
from gateway.replay.foreign.fields import DEFAULTS, Fields
from gateway.signals import Catalogue
from gateway.web.intake import Head, Intake


class Maker:
    """Holds what records are made into exchanges with. passed: what was passed over because it is no exchange, by why.

    A directory that is not in memory is asked once for each credential, and says what it says now.
    """

    def __init__(self, intake: Intake, catalogue: Catalogue, fields: Fields = DEFAULTS) -> None:
        self.intake, self.catalogue, self.fields = intake, catalogue, fields
        self.passed: Counter[str] = Counter()
        self._runner: asyncio.Runner | None = None

    def looked_up(self, head: Head, facts: Facts, place: Place) -> Facts:
        """The facts with what the directory says of their credential now. Raises UnansweredError."""
        if not self.intake.must_ask(facts):
            return facts
        if self._runner is None:
            self._runner = asyncio.Runner()
        facts, lookup = self._runner.run(self.intake.look_up(head, facts)), self.intake.registry.lookup
        if facts.looked_up is not None and facts.looked_up.freshness is Freshness.UNAVAILABLE and lookup is not None:
            raise UnansweredError(place, f"the account directory did not answer: {lookup.health()['problem']}")
        return facts

    def close(self) -> None:
        """Let go of the directory's connections."""
        runner, self._runner = self._runner, None
        if runner is not None and self.intake.registry.lookup is not None:
            with runner:
                runner.run(self.intake.registry.lookup.close())
