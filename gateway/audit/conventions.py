"""What stands in spans: the attributes of each, as tables. Names are the current semantic conventions' (HTTP: 1.44; `gen_ai.*`:
its own repository since, 2026-11); where they have none, the name begins with `sluice.`.

The tables are all there is: spans are laid out by them, and `examples/README.md` lists them. An attribute without a value is
left out. `gen_ai.*` stands on the model call only. Credentials are in none of them; prompts and answers
only where content is captured (`CONTENT`), within its own bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from gateway.audit.content import INPUT, OUTPUT, SYSTEM, told
from gateway.audit.identifiers import hidden
from gateway.audit.otlp import Value
from gateway.decision import RuleEnd
from gateway.facts import Answer, Call, End, Facts
from gateway.judgement import Judgement
from gateway.language.policy import Rule
from gateway.values import SECOND

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
OTHER: Final = "_OTHER"
PROVIDERS: Final = {"gemini": "gcp.gemini"}  # where the conventions call a protocol's provider by another name
OPERATIONS: Final = {("gemini", "chat"): "generate_content"}
Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Settled:
    """One settled exchange, as attributes are read from it. entry: its audit record; server: host and port of its upstream,
    where there is but one.
    """

    judgement: Judgement
    answer: Answer
    entry: Mapping[str, Any]
    server: tuple[str, int] | None = None

    @property
    def facts(self) -> Facts:
        return self.judgement.facts

    @property
    def call(self) -> Call | None:
        return self.judgement.facts.call

    @property
    def failed(self) -> str | None:
        """How the answer failed to come to its end; None where it did, or was ours."""
        return None if self.answer.end in (End.COMPLETE, End.REFUSED) else str(self.answer.end)


@dataclass(frozen=True, slots=True)
class Matched:
    """One rule that matched, and the version of its pack."""

    rule: Rule
    end: RuleEnd
    version: int


@dataclass(frozen=True, slots=True)
class Attribute(Generic[Subject]):
    """One attribute. read: its value, None for none."""

    name: str
    read: Callable[[Subject], Value | None]
    meaning: str


Table = tuple[Attribute[Settled], ...]


def method_of(facts: Facts) -> str:
    """The method, where it is one of HTTP's: others are callers' inventions, of which there is no end."""
    return facts.method if facts.method in METHODS else OTHER


def operation_of(facts: Facts) -> str:
    call = facts.call
    assert call is not None
    return OPERATIONS.get((facts.protocol or "", call.operation), call.operation)


def _host(settled: Settled) -> tuple[str, int | None] | None:
    """What the caller asked for by name."""
    try:
        parts = urlsplit("//" + (settled.facts.header("host") or ""))
        return (parts.hostname, parts.port) if parts.hostname else None
    except ValueError:
        return None


def _named(place: int) -> Callable[[Settled], Value | None]:
    return lambda settled: (_host(settled) or (None, None))[place]


def _signal(name: str) -> Callable[[Settled], Value | None]:
    return lambda settled: settled.entry["signals"].get(name)


def _content(name: str) -> Callable[[Settled], Value | None]:
    return lambda settled: told(settled.entry, name)


def _peer(settled: Settled) -> Value | None:
    """The other end of the connection. Where records hold hashes: that of the caller, if it is one; of a proxy none."""
    peer, entry = settled.facts.peer, settled.entry
    if not hidden(entry):
        return peer
    return entry["signals"].get("client.ip") if settled.judgement.view.get("client.ip") == peer else None


def _rules(verdict: str) -> Callable[[Settled], Value | None]:
    return lambda settled: [rule["id"] for rule in settled.entry["rules"] if rule["verdict"] == verdict] or None


def _sent(kind: type, *names: str) -> Callable[[Settled], Value | None]:
    """A parameter of the call by any of its names, where it is of the kind that is wanted; a whole number is a float too."""

    def read(settled: Settled) -> Value | None:
        assert settled.call is not None
        found = next((value for name in names if (value := settled.call.parameters.get(name)) is not None), None)
        if isinstance(found, bool) or not isinstance(found, (kind, int) if kind is float else kind):
            return None
        return kind(found)  # type: ignore[no-any-return]

    return read


def _called(name: str) -> Callable[[Settled], Value | None]:
    return lambda settled: getattr(settled.call, name)


def _used(name: str) -> Callable[[Settled], Value | None]:
    return lambda settled: getattr(settled.answer.usage, name)


def _first_chunk(settled: Settled) -> float | None:
    """Seconds from asking the upstream to the first bytes of its stream."""
    first, call = settled.answer.first_byte, settled.call
    if first is None or call is None or not call.stream:
        return None
    return max(0, first - settled.judgement.judged_in // 1_000 - settled.judgement.outcome.delay) / SECOND


def _choices(settled: Settled) -> Value | None:
    found = _sent(int, "n", "candidateCount")(settled)
    return found if found != 1 else None


def _stop(settled: Settled) -> Value | None:
    found = _sent(str, "stop")(settled)
    return [found] if isinstance(found, str) else None


def _status_error(settled: Settled) -> str | None:
    status = settled.answer.status
    return str(status) if status is not None and status >= 500 else settled.failed if status is None else None


def _call_error(settled: Settled) -> str | None:
    status = settled.answer.status
    return settled.failed or (str(status) if status is not None and status >= 400 else None)


def _listed(found: list[str]) -> list[str] | None:
    return found or None


SERVER: Final[Table] = (
    Attribute("http.request.method", lambda s: method_of(s.facts), f"the method; `{OTHER}` for one that HTTP does not know"),
    Attribute(
        "http.request.method_original",
        lambda s: s.facts.method if method_of(s.facts) is OTHER else None,
        "that method, as sent",
    ),
    Attribute("url.scheme", lambda s: s.facts.scheme, "`http` or `https`, of the connection that it came on"),
    Attribute("url.path", lambda s: s.facts.path, "the path, without its query"),
    Attribute("http.route", lambda s: s.facts.template, "the pattern of the route, where it is known"),
    Attribute("http.request.body.size", lambda s: s.facts.size, "bytes of the request body, as sent"),
    Attribute("http.response.status_code", lambda s: s.answer.status, "the status that the caller was answered"),
    Attribute("network.protocol.version", lambda s: s.facts.http_version, "such as `1.1`"),
    Attribute("network.peer.address", _peer, "the other end of the connection; a hash as in the record, or none of a proxy"),
    Attribute("client.address", _signal("client.ip"), "the caller behind believed proxies, as in the record"),
    Attribute("geo.country.iso_code", _signal("client.country"), "where that address is registered"),
    Attribute("server.address", _named(0), "the host that the caller asked for"),
    Attribute("server.port", _named(1), "its port, where the caller named it"),
    Attribute("user_agent.original", lambda s: s.facts.header("user-agent"), "what the client calls itself"),
    Attribute("error.type", _status_error, "the status from 500 on; how the exchange ended where there was none"),
    Attribute("sluice.reference", lambda s: s.judgement.outcome.reference, "what the caller can refer to"),
)
POLICY: Final[Table] = (
    Attribute("sluice.decision.id", lambda s: s.judgement.outcome.id, "the id of the record"),
    Attribute("sluice.policy.digest", lambda s: s.judgement.engine.policy.digest, "the policy in force"),
    Attribute("sluice.policy.version", lambda s: s.judgement.engine.policy.version, "its version"),
    Attribute("sluice.policy.mode", lambda s: str(s.judgement.mode), "the overall mode"),
    Attribute("sluice.action", lambda s: str(s.judgement.outcome.action), "what was done"),
    Attribute("sluice.would", lambda s: str(s.judgement.outcome.would), "what shadow rules would have done, too"),
    Attribute("sluice.cause", lambda s: str(s.judgement.outcome.cause or "") or None, "why it could not be read"),
    Attribute("sluice.tags", lambda s: _listed(list(s.judgement.outcome.tags)), "tags that went upstream"),
    Attribute("sluice.asked", lambda s: _listed([one.kind for one in s.judgement.outcome.asked]), "what it is to declare"),
    Attribute(
        "sluice.workloads", lambda s: _listed([one["id"] for one in s.entry.get("workloads", ()) if one["covers"]]),
        "declared workloads that cover it",
    ),
    Attribute("sluice.rules.matched", _rules("match"), "rules that matched, in every mode"),
    Attribute("sluice.rules.unknown", _rules("unknown"), "rules that lacked a value"),
    Attribute("sluice.rules.error", _rules("error"), "rules that broke"),
)  # fmt: skip
CALL: Final[Table] = (
    Attribute("gen_ai.operation.name", lambda s: operation_of(s.facts), "such as `chat`, `generate_content`, `embeddings`"),
    Attribute("gen_ai.provider.name", lambda s: PROVIDERS.get(s.facts.protocol or "", s.facts.protocol), "whose protocol"),
    Attribute("gen_ai.request.model", _called("model"), "the model asked for"),
    Attribute("gen_ai.request.stream", lambda s: True if s.call and s.call.stream else None, "where a stream is asked for"),
    Attribute("gen_ai.request.max_tokens", _called("max_tokens"), "the most output tokens asked for"),
    Attribute("gen_ai.request.choice.count", _choices, "how many answers are asked for, where not one"),
    Attribute("gen_ai.request.temperature", _sent(float, "temperature"), "as asked for"),
    Attribute("gen_ai.request.top_p", _sent(float, "top_p", "topP"), "as asked for"),
    Attribute("gen_ai.request.top_k", _sent(int, "top_k", "topK"), "as asked for"),
    Attribute("gen_ai.request.frequency_penalty", _sent(float, "frequency_penalty", "frequencyPenalty"), "as asked for"),
    Attribute("gen_ai.request.presence_penalty", _sent(float, "presence_penalty", "presencePenalty"), "as asked for"),
    Attribute("gen_ai.request.seed", _sent(int, "seed"), "as asked for"),
    Attribute("gen_ai.request.stop_sequences", _stop, "as asked for, where it is one text"),
    Attribute("gen_ai.request.reasoning.level", _sent(str, "reasoning_effort"), "as asked for"),
    Attribute("gen_ai.response.model", lambda s: s.answer.model, "the model that answered"),
    Attribute("gen_ai.response.time_to_first_chunk", _first_chunk, "seconds until a stream began"),
    Attribute("gen_ai.usage.input_tokens", _used("input_tokens"), "tokens read, cached ones included"),
    Attribute("gen_ai.usage.output_tokens", _used("output_tokens"), "tokens written, reasoning included"),
    Attribute("gen_ai.usage.cache_read.input_tokens", _used("cached_tokens"), "of those read, how many came from a cache"),
    Attribute("gen_ai.usage.reasoning.output_tokens", _used("reasoning_tokens"), "of those written, how many were reasoning"),
)
CONTENT: Final[Table] = (
    Attribute("gen_ai.system_instructions", _content(SYSTEM), "where content is captured: the system prompt, as JSON"),
    Attribute("gen_ai.input.messages", _content(INPUT), "where content is captured: what was sent, as JSON"),
    Attribute("gen_ai.output.messages", _content(OUTPUT), "where content is captured: what was answered, as JSON"),
)
CLIENT: Final[Table] = (
    Attribute("http.request.method", lambda s: method_of(s.facts), "as above"),
    Attribute("http.response.status_code", lambda s: s.answer.status, "the status of the answer that went on"),
    Attribute("server.address", lambda s: s.server[0] if s.server else None, "the upstream, where the protocol has one"),
    Attribute("server.port", lambda s: s.server[1] if s.server else None, "its port"),
    Attribute("error.type", _call_error, "how the call broke; else the status from 400 on"),
)
RULE: Final[tuple[Attribute[Matched], ...]] = (
    Attribute("security_rule.name", lambda m: m.rule.id, "the rule"),
    Attribute("security_rule.description", lambda m: m.rule.title, "its title"),
    Attribute("security_rule.category", lambda m: m.rule.family, "its family"),
    Attribute("security_rule.ruleset.name", lambda m: m.rule.pack, "its pack"),
    Attribute("security_rule.version", lambda m: str(m.version), "the version of the pack"),
    Attribute("security_rule.reference", lambda m: next(iter(m.rule.references), None), "the first of its references"),
    Attribute("sluice.rule.severity", lambda m: m.rule.severity, "its severity"),
    Attribute("sluice.rule.mode", lambda m: str(m.end.mode), "its mode for this account"),
    Attribute("sluice.rule.action", lambda m: str(m.end.action), "what it asked for"),
    Attribute("sluice.rule.would", lambda m: str(m.end.would), "what it would have asked for, enforced"),
)
EVIDENCE: Final = "sluice.evidence."  # the values a rule names as its evidence, as a person writes them: one attribute each
