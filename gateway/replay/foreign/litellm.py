"""LiteLLM's spend logs: rows of its table `LiteLLM_SpendLogs`, as its API lists them, or as a database writes them to CSV.

Its `api_key` is a hash already and stands for the account; who owns it is the organisation, else the team, else the user. With
`store_prompts_in_spend_logs` the row holds the request body (`proxy_server_request`), and so feeds what rests on its content.
Databases keep JSON with its keys in an order of their own, so how a body was written is not told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.errors import Place
from gateway.facts import End
from gateway.replay.exchange import Exchange
from gateway.replay.foreign.fields import Fields
from gateway.replay.foreign.partial import NONE, Told, exchange
from gateway.replay.making import Maker
from gateway.values import IP, parse_timestamp

Entry = Mapping[str, Any]
OWNERS: Final = ("organization_id", "team_id", "user")
_NOBODY: Final = ("", None, "default_user_id")  # the last is LiteLLM's word for a key that is no user's
_AGENT: Final = "User-Agent: "
CALLS: Final = {
    "completion": ("/v1/chat/completions", "chat"), "text_completion": ("/v1/completions", "text_completion"),
    "responses": ("/v1/responses", "chat"), "anthropic_messages": ("/v1/messages", "chat"),
    "embedding": ("/v1/embeddings", "embeddings"), "image_generation": ("/v1/images/generations", "image"),
    "moderation": ("/v1/moderations", "moderation"), "speech": ("/v1/audio/speech", "speech"),
    "transcription": ("/v1/audio/transcriptions", "transcription"),
}  # fmt: skip


def of_litellm(entry: Entry, fields: Fields) -> bool:
    """Whether an entry is a row of spend logs."""
    return "request_id" in entry and "call_type" in entry and "startTime" in entry


def spend_log(entry: Entry, place: Place, maker: Maker) -> Iterator[Exchange]:
    """The exchange of a row. A call that no HTTP client makes of a model (a health check, a batch's cost) is passed over."""
    metadata = _object(entry.get("metadata"))
    path, operation = CALLS.get(str(entry["call_type"]).removeprefix("a"), (None, None))
    if str(entry["call_type"]) in CALLS:  # `anthropic_messages` begins with the letter that marks asynchronous calls
        path, operation = CALLS[str(entry["call_type"])]
    if path is None:
        maker.passed[f"spend logs of {entry['call_type'] or 'no call'}, which is no request of the APIs judged here"] += 1
        return
    document = _object(entry.get("proxy_server_request")) or None
    failed = str(entry.get("status") or "success") != "success"
    status = _whole(_object(metadata.get("error_information")).get("error_code")) if failed else 200
    call = {"operation": operation, "model": entry.get("model_group") or entry.get("model") or None}
    call |= {"end_user": entry["end_user"] or None} if "end_user" in entry else {}
    told = Told(
        at=parse_timestamp(entry["startTime"]), id=str(entry["request_id"]), headers=_agent(entry),
        facts={"method": "POST", "path": path}, account=_account(entry), call=None if document else call,
        document=document, usage=_usage(entry, metadata), signals=_address(entry),
        answer=({"status": status} if status is not None else {}) | {"model": entry.get("model") or None},
        end=End.UPSTREAM_FAILED if failed and (status is None or status >= 500) else End.COMPLETE,
    )  # fmt: skip
    yield exchange(told, place, maker)


def _account(entry: Entry) -> dict[str, Any] | None:
    if not entry.get("api_key"):
        return None
    owner = next((entry[name] for name in OWNERS if entry.get(name) not in _NOBODY), None)
    return {"id": str(entry["api_key"])} | ({"org": owner} if any(name in entry for name in OWNERS) else {})


def _address(entry: Entry) -> dict[str, object]:
    """The caller's address, as LiteLLM worked it out."""
    if "requester_ip_address" not in entry:
        return {}
    return {"client.ip": IP.parse(entry["requester_ip_address"]) if entry["requester_ip_address"] else NONE}


def _agent(entry: Entry) -> dict[str, str | None]:
    """What the client calls itself: LiteLLM tags requests with it, whole and by its first word."""
    tags = _parsed(entry.get("request_tags"))
    agents = [tag.removeprefix(_AGENT) for tag in tags if isinstance(tag, str) and tag.startswith(_AGENT)] \
        if isinstance(tags, list) else []  # fmt: skip
    return {"user-agent": max(agents, key=len)} if agents else {}


def _usage(entry: Entry, metadata: Entry) -> dict[str, int | None]:
    usage = _object(metadata.get("usage_object"))
    cached = usage.get("cache_read_input_tokens", _object(usage.get("prompt_tokens_details")).get("cached_tokens"))
    found = {
        "input_tokens": entry.get("prompt_tokens"), "output_tokens": entry.get("completion_tokens"), "cached_tokens": cached,
        "reasoning_tokens": _object(usage.get("completion_tokens_details")).get("reasoning_tokens"),
    }  # fmt: skip
    return {name: _whole(value) for name, value in found.items() if value not in (None, "")}


def _whole(value: object) -> int | None:
    return None if value in (None, "") else int(str(value))


def _parsed(value: object) -> object:
    """JSON that may stand in a text, as CSV holds it."""
    return json.loads(value) if isinstance(value, str) and value else value


def _object(value: object) -> Entry:
    found = _parsed(value)
    return found if isinstance(found, Mapping) else {}
