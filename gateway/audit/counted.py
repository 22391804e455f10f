"""What is counted of every settled exchange, for metrics: a sink that adds to integers. No account, no address is a key."""

from __future__ import annotations

from typing import Final

from gateway.decision import Action
from gateway.facts import Answer
from gateway.judgement import Judgement
from gateway.tally import OTHER, Counters, Histogram, Histograms

MODELS: Final = 50
ROUTES: Final = 300
RULES: Final = 5_000
SECOND: Final = 1_000_000
NANO: Final = 1_000_000_000
TOKENS: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)  # the conventions' own
JUDGED: Final = (0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.01, 0.05, 0.25, 1.0)
ANSWERS: Final = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)  # the conventions' own
NONE: Final = "none"


class Counted:
    """Counts since the start. Every key is bounded by the policy, the tables of routes and words, or a cap."""

    def __init__(self) -> None:
        self.settled = self.request_bytes = self.answer_bytes = 0
        self.decisions: Counters[tuple[str, str, str]] = Counters((OTHER, OTHER, OTHER))
        self.refusals: Counters[tuple[str]] = Counters((OTHER,))
        self.rules: Counters[tuple[str, str, str]] = Counters((OTHER, OTHER, OTHER), RULES)
        self.limits: Counters[tuple[str, str, str]] = Counters((OTHER, OTHER, OTHER), RULES)
        self.causes: Counters[tuple[str]] = Counters((OTHER,))
        self.failing: Counters[tuple[str, str]] = Counters((OTHER, OTHER))
        self.answers: Counters[tuple[str, str]] = Counters((OTHER, OTHER))
        self.requests: Histograms[tuple[str, str, str]] = Histograms((OTHER, OTHER, OTHER), most=ROUTES)
        self.calls: Histograms[tuple[str, str, str]] = Histograms((OTHER, OTHER, OTHER), ANSWERS, MODELS)
        self.tokens: Histograms[tuple[str, str, str]] = Histograms((OTHER, OTHER, OTHER), TOKENS, 2 * MODELS)
        self.judged = Histogram(JUDGED)
        self.first_bytes = Histogram(ANSWERS)

    def __call__(self, judgement: Judgement, answer: Answer) -> None:
        """Count one settled exchange."""
        outcome, facts = judgement.outcome, judgement.facts
        self.settled += 1
        self.request_bytes += facts.size
        self.answer_bytes += answer.size
        mode = str(judgement.mode)
        self.decisions.add((_WORDS[outcome.action], _WORDS[outcome.would], mode))
        self.judged.observe(judgement.judged_in / NANO)
        for end in outcome.decision.ends:
            self.rules.add((end.rule, end.verdict.value, end.mode.value))
        for room in outcome.rooms:
            self.limits.add((room.limit, "admitted" if room.allowed else "refused", "shadow" if room.shadow else mode))
        if outcome.cause is not None:
            self.causes.add((outcome.cause.value,))
        for pair in judgement.failing.items():
            self.failing.add(pair)
        if outcome.refusal is not None:
            self.refusals.add((outcome.refusal.public.code,))
            status = str(outcome.refusal.status)
        else:
            status = str(answer.status or NONE)
            self._upstream(judgement, answer)
        self.requests.observe((facts.protocol or NONE, facts.route or NONE, status), (answer.duration or 0) / SECOND)

    def _upstream(self, judgement: Judgement, answer: Answer) -> None:
        facts, usage = judgement.facts, answer.usage
        protocol, call = facts.protocol or NONE, facts.call
        self.answers.add((protocol, f"{answer.status // 100}xx" if answer.status else str(answer.end)))
        if answer.first_byte is not None:
            self.first_bytes.observe(answer.first_byte / SECOND)
        if call is None:
            return
        model = call.model or NONE
        self.calls.observe((protocol, call.operation, model), (answer.duration or 0) / SECOND)
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens is not None:
                self.tokens.observe((protocol, kind, model), tokens)


_WORDS: Final = {action: str(action) for action in Action}
