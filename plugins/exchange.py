"""What the exchange itself says: `request.*`, known at once, and `response.*`, known when it is over."""

from __future__ import annotations

from gateway.credentials import without_keys
from gateway.registry import Registry, Settings
from gateway.signals import NOT_ANSWERED, Cost, Signal, View
from gateway.values import BOOL, FLOAT, INT, STRING, Missing, set_of

LARGEST = 2**53
PARAMETERS = {
    "temperature": "temperature", "top_p": "nucleus", "top_k": "nucleus", "min_p": "nucleus", "n": "candidates",
    "best_of": "candidates", "max_tokens": "limit", "max_completion_tokens": "limit", "max_output_tokens": "limit",
    "seed": "seed", "random_seed": "seed", "stop": "stop", "stop_sequences": "stop", "logprobs": "logprobs",
    "top_logprobs": "logprobs", "echo": "logprobs", "presence_penalty": "penalties", "frequency_penalty": "penalties",
    "repetition_penalty": "penalties", "response_format": "format", "output_config": "format", "guided_json": "format",
    "reasoning": "reasoning", "reasoning_effort": "reasoning", "thinking": "reasoning", "tool_choice": "tool_choice",
    "topP": "nucleus", "topK": "nucleus", "candidateCount": "candidates", "maxOutputTokens": "limit", "stopSequences": "stop",
    "responseLogprobs": "logprobs", "presencePenalty": "penalties", "frequencyPenalty": "penalties",
    "responseMimeType": "format", "responseSchema": "format", "responseJsonSchema": "format", "thinkingConfig": "reasoning",
}  # fmt: skip
NO_CALL = Missing("no model call could be read")
NOT_SAID = Missing("the upstream did not say")
NONE = Missing("none")
NO_MODEL = Missing("no model named")
NO_BATCH = Missing("the call is no batch")
NOT_COUNTABLE = Missing("not sent, or no number that can be counted with")
NO_NUMBER = Missing("not sent, or no number")
NOT_ABOVE_ZERO = Missing("not sent, or not above zero")
# lists and objects, which no `Call` keeps: being sent says it
NESTED = frozenset({"stop", "stop_sequences", "response_format", "output_config", "guided_json", "reasoning", "thinking"})


def register(registry: Registry, settings: Settings) -> None:
    registry.add_signals(SIGNALS)


def _text(name: str) -> Signal:
    meaning = {
        "method": "the request's method", "path": "the request's path, without its query",
        "protocol": "the wire protocol of the route, such as openai", "route": "the route's name, such as chat.completions",
        "cause": "why the exchange could not be read as its protocol says",
    }[name]  # fmt: skip

    def resolve(view: View) -> object:
        value = getattr(view.facts, name)
        return str(value) if value is not None else NONE

    missing = "never" if name in ("method", "path") else "the exchange has none"
    return Signal(f"request.{name}", STRING, meaning, resolve, missing=missing)


def _model(view: View) -> object:
    call = view.facts.call
    return without_keys(call.model) if call and call.model else NO_MODEL  # records keep it, and keys get there by mistake


def _models(view: View) -> object:
    call = view.facts.call
    if call is None or not (call.models or call.model):
        return NO_MODEL
    named = [name for name in call.models if name] if call.models else [call.model or ""]
    return frozenset(map(without_keys, named)) or NO_MODEL


def _entries(view: View) -> object:
    call = view.facts.call
    return call.entries if call is not None and call.entries is not None else NO_BATCH


def _stream(view: View) -> object:
    return view.facts.call.stream if view.facts.call else NO_CALL


def _operation(view: View) -> object:
    return view.facts.call.operation if view.facts.call else NO_CALL


def _end_user(view: View) -> object:
    call = view.facts.call
    return (call is not None and call.end_user is not None) if call else NO_CALL


def _parameter(name: str) -> Signal:
    def resolve(view: View) -> object:
        call = view.facts.call
        value = call.parameters.get(name) if call else None
        countable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
        return value if countable else NOT_COUNTABLE

    return Signal(f"request.{name}", INT, f"the request's {name} parameter", resolve, Cost.BODY, "not sent, or not whole")


def _parameters(view: View) -> object:
    call = view.facts.call
    if call is None:
        return NO_CALL
    sent = [PARAMETERS[key] for key, value in call.parameters.items() if value is not False and key in PARAMETERS]
    return frozenset([*sent, *[PARAMETERS[key] for key in NESTED.intersection(view.facts.keys)]])


def _temperature(view: View) -> object:
    call = view.facts.call
    value = call.parameters.get("temperature") if call else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NO_NUMBER
    return float(value)


def _max_tokens(view: View) -> object:
    call = view.facts.call
    return call.max_tokens if call is not None and call.max_tokens is not None else NOT_ABOVE_ZERO


def _asks_for(name: str) -> Signal:
    def resolve(view: View) -> object:
        return name in view.facts.call.asks_for if view.facts.call else NO_CALL

    return Signal(f"request.{name}", BOOL, f"whether the request asks for {name}", resolve, Cost.BODY, "no model call")


def _status(view: View) -> object:
    if view.answer is None:
        return NOT_ANSWERED
    return view.answer.status if view.answer.status is not None else NOT_SAID


def _tokens(name: str) -> Signal:
    def resolve(view: View) -> object:
        if view.answer is None:
            return NOT_ANSWERED
        value = getattr(view.answer.usage, name)
        return value if value is not None else NOT_SAID

    meaning = f"{name.replace('_', ' ')} the upstream reported"
    return Signal(f"response.{name}", INT, meaning, resolve, missing="the upstream did not say", settled=True)


SIGNALS = (
    *map(_text, ("method", "path", "protocol", "route", "cause")),
    Signal("request.size", INT, "bytes of the body as sent", lambda view: view.facts.size, least=0),
    Signal("request.model", STRING, "the model asked for", _model, Cost.BODY, "no model named", recorded=True),
    Signal("request.stream", BOOL, "whether a streamed answer is asked for", _stream, Cost.BODY, "no model call"),
    Signal("request.operation", STRING, "chat, text_completion, embeddings, count_tokens, moderation, image, speech, "
           "transcription, batch, file or generic", _operation, Cost.BODY,
           "no model call", source="OpenTelemetry gen_ai.operation.name"),
    Signal("request.models", set_of(STRING), "every model the request names: one, or those of a batch's entries",
           _models, Cost.BODY, "no model named"),
    Signal("request.entries", INT, "how many calls a batch hands in at once", _entries, Cost.BODY, "the call is no batch",
           least=0),
    Signal("request.end_user", BOOL, "whether the call names an end user", _end_user, Cost.BODY, "no model call",
           confounder="applications that do not pass their users' ids on"),
    Signal("request.max_tokens", INT, "the most output tokens the request allows, whatever its protocol calls them",
           _max_tokens, Cost.BODY, "not sent, or not above zero"),
    _parameter("n"),
    Signal("request.temperature", FLOAT, "the sampling temperature asked for", _temperature, Cost.BODY,
           "not sent, or no number"),
    Signal("request.parameters", set_of(STRING), "which ways of decoding the request sets, in words that all protocols share: "
           + ", ".join(sorted({*PARAMETERS.values()})), _parameters, Cost.BODY, "no model call",
           "programs of every kind: SDKs and frameworks set some by default"),
    _asks_for("logprobs"),
    _asks_for("reasoning"),
    Signal("response.status", INT, "the answer's status", _status, missing="no answer came", settled=True),
    _tokens("input_tokens"),
    _tokens("output_tokens"),
    _tokens("cached_tokens"),
    _tokens("reasoning_tokens"),
)  # fmt: skip
