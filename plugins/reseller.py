"""What software sent this, and does it agree with itself: `client.*` signatures and `reseller.*`.

Header values are cheap to copy and decay within weeks; what a caller's runtime does by itself (header order, JSON
serialisation) outlasts them. So the signals here are what is claimed, what is seen, and the contradictions between the
two, listed in a data table. A match means «a relay is present», never «abuse».
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError
from gateway.plugins.address import address
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.strict.document import read
from gateway.strict.shapes import Field, Problems, listing, mapping, text
from gateway.values import INT, STRING, Missing, set_of

NO_AGENT: Final = Missing("no User-Agent was sent")
NO_BODY: Final = Missing("no JSON body")
NOT_RAW: Final = Missing("the body's raw bytes are not known")

_AGENT: Final = re.compile(r"([A-Za-z][\w.+ -]*?)(?:/(?:JS |Python )?v?(\d[\w.+-]*)|/(?=JS|Python)|\s|$)")
_RUNTIMES: Final = {
    "python": re.compile(r"python|aiohttp|httpx|urllib|litellm|dspy|^curl_cffi", re.IGNORECASE),
    "node": re.compile(r"node|axios|undici|/js |ai-sdk|claude-cli", re.IGNORECASE),
    "go": re.compile(r"^go-http-client|^go/", re.IGNORECASE),
    "rust": re.compile(r"reqwest|codex", re.IGNORECASE),
    "curl": re.compile(r"^curl/", re.IGNORECASE),
}  # fmt: skip
_VARYING: Final = frozenset({
    "content-length", "host", "connection", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto",
    "x-forwarded-host", "forwarded", "via", "traceparent", "tracestate",
})  # fmt: skip
_FIRST_KEY: Final = re.compile(rb'\s*\{(\s*)"(?:[^"\\]|\\.)*"\s*:([ ]?)')
_HTML_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u00(?:3[ce]|26)")
_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[0-9a-f]{4}")
_CONTENT_FIRST: Final = re.compile(rb'\{\s*"content"\s*:')
_STYLE_WINDOW: Final = 65_536
_PROBE_TEXTS: Final = 24


def _family(view: View) -> object:
    agent = view.facts.header("user-agent")
    if not agent:
        return NO_AGENT
    found = _AGENT.match(agent)
    return found[1].strip().lower() if found else agent[:40].lower()


def _claimed_version(view: View) -> object:
    agent = view.facts.header("user-agent")
    if not agent:
        return NO_AGENT
    found = re.search(r"(\d+(?:\.\d+)+)", agent)
    return found[1] if found else Missing("the User-Agent names no version")


def _runtime(view: View) -> object:
    said = view.facts.header("x-stainless-lang") or ""
    named = {"python": "python", "js": "node", "go": "go"}.get(said.lower())
    if named:
        return named
    agent = view.facts.header("user-agent") or ""
    return next((name for name, seen in _RUNTIMES.items() if seen.search(agent)), Missing("nothing shows it"))


def _fingerprint(view: View) -> object:
    names = [name for name, _ in view.facts.headers if name not in _VARYING]
    if not names:
        return Missing("no headers")
    return blake2b("\n".join(names).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def json_style(raw: bytes, keys: tuple[str, ...]) -> frozenset[str]:
    """How a body was serialised: separators (seen at its first key), escapes and key order, from its first 64 KiB."""
    head = raw[:_STYLE_WINDOW]
    seen = {"keys-sorted"} if len(keys) >= 4 and list(keys) == sorted(keys) else set()
    first = _FIRST_KEY.match(head)
    if first and b"\n" not in first[1]:
        seen.add("spaced" if first[2] == b" " else "compact")
    if b"\\u" in head:
        if _HTML_ESCAPE.search(head):
            seen.add("html-escapes")
        elif _ESCAPE.search(head):
            seen.add("ascii-escapes")
    if not head.isascii():
        seen.add("raw-utf8")
    if _CONTENT_FIRST.search(head):
        seen.add("content-before-role")
    return frozenset(seen)


def _json_style(view: View) -> object:
    facts = view.facts
    if not facts.keys:
        return NO_BODY
    if facts.body is None:
        sorted_keys = len(facts.keys) >= 4 and list(facts.keys) == sorted(facts.keys)
        return frozenset({"keys-sorted"}) if sorted_keys else NOT_RAW
    return json_style(facts.body, facts.keys)


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the contradictions table: a claimed runtime or family, and what that software would never send."""

    name: str
    runtimes: frozenset[str]
    agents: tuple[str, ...]
    styles: frozenset[str]
    header: str
    contains: str
    lacks: str

    def contradicts(self, runtime: object, agent: str, style: object, headers: Mapping[str, str]) -> bool:
        if self.runtimes and runtime not in self.runtimes:
            return False
        if self.agents and not agent.startswith(self.agents):
            return False
        if self.styles and not (isinstance(style, frozenset) and style >= self.styles):
            return False
        if self.lacks and any(name.startswith(self.lacks) for name in headers):
            return False
        if self.header:
            value = headers.get(self.header)
            return value is not None and self.contains in value
        return True


_CLAIM: Final = {
    "name": Field(text("name"), required=True),
    "runtimes": Field(listing(text("runtime"), "runtimes"), default=[]),
    "agents": Field(listing(text("agent"), "agents"), default=[]),
    "styles": Field(listing(text("style"), "styles"), default=[]),
    "header": Field(text("header"), default=""),
    "contains": Field(text("contains"), default=""),
    "lacks": Field(text("lacks"), default=""),
    "why": Field(text("why"), required=True),
}
_TABLE: Final = {
    "source": Field(text("source"), required=True), "date": Field(text("date"), required=True),
    "claims": Field(listing(mapping(_CLAIM, "a claim"), "claims"), required=True),
}  # fmt: skip


def load_claims(path: Path) -> tuple[Claim, ...]:
    """The contradictions table. Raises ConfigError with every problem found."""
    problems = Problems(raises=ConfigError)
    table = mapping(_TABLE, "a contradictions table")(read(path), problems)
    if problems.found or table is None:
        raise ConfigError(problems.found)
    rows: list[Mapping[str, Any]] = table["claims"]
    return tuple(
        Claim(row["name"], frozenset(row["runtimes"]), tuple(agent.lower() for agent in row["agents"]),
              frozenset(row["styles"]), row["header"], row["contains"], row["lacks"])
        for row in rows
    )  # fmt: skip


def _forwarded(view: View) -> object:
    values = view.facts.header_values("x-forwarded-for") + view.facts.header_values("x-real-ip")
    hops = [found for value in values for hop in value.split(",") if (found := address(hop)) is not None]
    outer = [hop for hop in hops if hop.is_global or hop.is_reserved]
    own = view.get("client.ip")
    claimed = next((hop for hop in outer if str(hop) != own), None)
    return str(claimed) if claimed else Missing("no forwarded public address")


def _probe_text(view: View) -> str | None:
    """The text of a health-check-like body: one short message and a tiny max_tokens."""
    call = view.facts.call
    if call is None or len(call.messages) != 1 or call.system or call.tools:
        return None
    text = call.messages[0].text
    most = next((call.parameters[k] for k in ("max_tokens", "max_completion_tokens") if k in call.parameters), None)
    return text.strip().lower() if len(text) <= _PROBE_TEXTS and isinstance(most, int) and most <= 50 else None


def register(registry: Registry, settings: Settings) -> None:
    named = settings.get("reseller", {}).get("contradictions")
    claims = load_claims(named or Path(str(files("gateway.rules") / "data" / "contradictions.yaml")))

    def contradictions(view: View) -> object:
        headers = {name: value.lower() for name, value in view.facts.headers}
        agent = headers.get("user-agent", "")
        runtime, style = view.get("client.runtime"), view.get("client.json_style")
        return frozenset(claim.name for claim in claims if claim.contradicts(runtime, agent, style, headers))

    hash_key: bytes = settings.get("identity", {}).get("hash_key", b"")[:64]

    def probe(view: View) -> object:
        text = _probe_text(view)
        if text is None:
            return Missing("not such a body")
        return blake2b(text.encode("utf-8", "replace"), key=hash_key, digest_size=8).hexdigest()

    def contradiction_count(view: View) -> object:
        found = view.get("reseller.contradictions")
        return len(found) if isinstance(found, frozenset) else found

    rewriting = "corporate proxies that rewrite headers or bodies"
    registry.add_signals((
        *_SIGNALS,
        Signal("reseller.contradictions", set_of(STRING), "ways in which the claimed client and what it sent disagree",
               contradictions, Cost.BODY, confounder=rewriting, source="consistency checks outlive value checks"),
        Signal("reseller.probe", STRING, "keyed hash of a health-check-like body: one short message, tiny max_tokens", probe,
               Cost.BODY, "not such a body", confounder="people say hi; a monitor on one's own keys"),
        Signal("reseller.contradiction_count", INT, "how many such ways", contradiction_count, Cost.BODY, confounder=rewriting,
               least=0),
    ))  # fmt: skip


_SIGNALS: Final = (
    Signal("client.family", STRING, "the software named in User-Agent, lower-cased", _family, missing="no User-Agent",
           confounder="anything can name itself anything"),
    Signal("client.claimed_version", STRING, "the version named in User-Agent", _claimed_version, missing="none named"),
    Signal("client.runtime", STRING, "python, node, go, rust or curl, from the SDK's headers or User-Agent", _runtime,
           missing="nothing shows it"),
    Signal("client.fingerprint", STRING, "header names in order, without those that vary per request", _fingerprint,
           missing="no headers", confounder="everybody who uses the same SDK version"),
    Signal("client.json_style", set_of(STRING),
           "how the body was serialised: spaced, compact, keys-sorted, html-escapes, ascii-escapes, raw-utf8, "
           "content-before-role",
           _json_style, Cost.BODY, "no JSON body, or its raw bytes are not known"),
    Signal("reseller.forwarded_client", STRING, "a public end-user address that the caller itself forwarded; never a location",
           _forwarded, missing="none forwarded", confounder="corporate egress proxies (few addresses)"),
)  # fmt: skip
