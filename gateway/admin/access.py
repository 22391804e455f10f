"""Who may ask: bearer tokens with names and roles, and how often.

Tokens are compared by their hashes, in constant time, all of them each time. Requests are counted by token; wrong tokens are
counted together, whatever addresses they come from, so that nothing here is keyed by what a stranger chooses and nobody locks a
good token out. Who brings none guesses nothing and is not counted. Both are windows of the `limits` library, in this process.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from gateway.incidents import report
from gateway.sections import Role

GUESSES: Final = 60  # wrong tokens a minute, of everybody
MINUTE: Final = 60  # seconds


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: its name, its role, and the SHA-256 of its text."""

    name: str
    role: Role
    digest: bytes

    @classmethod
    def of(cls, name: str, role: Role, text: str) -> Token:
        return cls(name, role, sha256(text.encode()).digest())


class Access:
    """rate: requests a minute of one token."""

    def __init__(self, tokens: Iterable[Token], rate: int) -> None:
        self._tokens = tuple(tokens)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._rate, self._guesses = RateLimitItemPerMinute(rate), RateLimitItemPerMinute(GUESSES)

    def token(self, header: str) -> Token | None:
        """Whose token an `Authorization` header bears; None for nobody's."""
        scheme, _, text = header.partition(" ")
        offered, found = sha256(text.strip().encode("utf-8", "surrogateescape")).digest(), None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, offered):
                found = token
        return found if scheme.lower() == "bearer" else None

    def admits(self, token: Token) -> bool:
        """Count one request of this token; False where there were too many in this minute."""
        return self._limiter.hit(self._rate, "token", token.name)

    def guessed(self) -> bool:
        """Count one wrong token; False where there were too many in this minute. Operators are told of such a minute."""
        if self._limiter.hit(self._guesses, "guesses"):
            return True
        report("admin.guessed", f"more than {GUESSES} requests with wrong tokens in a minute")
        return False
