"""Whether a proxy of ours stands before us: then header order and transport are the proxy's, not the caller's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.facts import Facts
from gateway.plugins.address import Resolver, resolver_of
from gateway.registry import Settings
from gateway.values import Missing

JA4: Final = re.compile(r"[tqd][0-9s][0-9][di][0-9]{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}")
NOT_PASSED: Final = Missing("no trusted edge passes it")


@dataclass(frozen=True, slots=True)
class Edge:
    """The proxies that are believed. resolver: whom the caller's address is taken from. header: where they pass JA4."""

    resolver: Resolver
    header: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Edge:
        """The edge that `client_address` of gateway.yaml states."""
        return cls(resolver_of(settings), str(settings.get("client_address", {}).get("ja4") or "").lower())

    def between(self, facts: Facts) -> bool:
        """Whether the connection is a believed proxy's; where no peer is known, it is taken for the caller's own."""
        return self.resolver.believes(facts.peer)

    def ja4(self, facts: Facts) -> str | Missing:
        """The JA4 of the caller's TLS as the edge passes it. A caller's own header, or a second one, is not believed."""
        if not self.header or not self.between(facts):
            return NOT_PASSED
        values = facts.header_values(self.header)
        if len(values) != 1:
            return Missing("the edge passed it more than once" if values else "the edge did not pass it")
        value = values[0].strip()
        return value if JA4.fullmatch(value) else Missing("what the edge passed is no JA4")
