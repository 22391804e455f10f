"""From settings to a ledger: what signs it, what hides the identifiers in it, and what opens them again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.audit.content import NO_CONTENT, ContentSettings
from gateway.audit.identifiers import Keeping, NameKeys, Names
from gateway.audit.ledger import LedgerSettings
from gateway.audit.sealing import Keys, Opener, Seals
from gateway.audit.signing import Key
from gateway.values import SECOND

MIB: Final = 2**20
DAY: Final = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How a ledger is kept (`LedgerSettings` has the times in µs), and what stands in it.

    sign: a private key as text, empty for none. keys: the file of the accounts' keys. names: a file of dated keys for hashes,
    else one is derived from the gateway's secret. overlap: µs for which records hold the hashes of the key before as well.
    content: of which routes records hold what was said.
    """

    sync: int = SECOND // 5
    segment: int = 64 * MIB
    every: int = DAY
    retain: int = 0
    sign: str = field(default="", repr=False)
    identifiers: Keeping = Keeping.HASHED
    keys: Path = Path("audit.keys")
    names: Path | None = None
    overlap: int = 7 * DAY
    content: ContentSettings = NO_CONTENT

    def ledger(self) -> LedgerSettings:
        """How the ledger is written. Raises ConfigError for a key that is none."""
        signer = Key(self.sign, "audit.sign") if self.sign else None
        return LedgerSettings(self.sync, self.segment, self.every, self.retain, signer)

    def hides(self, secret: bytes) -> Seals | None:
        """What takes the identifiers out of records; None where they stay. Raises ConfigError."""
        if self.identifiers is Keeping.PLAIN:
            return None
        return Seals(self.hashes(secret), Keys(self.keys) if self.identifiers is Keeping.SEALED else None)

    def hashes(self, secret: bytes) -> Names:
        """The keyed hashes of this ledger. Raises ConfigError for a file that holds no dated keys."""
        keys = NameKeys.derived(secret) if self.names is None else NameKeys.read(self.names, self.overlap)
        return Names(self.identifiers, keys)

    def opens(self) -> Opener:
        """What puts sealed identifiers back, where the keys are here. Raises ConfigError."""
        return Opener(Keys(self.keys, create=False) if self.keys.exists() else None)
