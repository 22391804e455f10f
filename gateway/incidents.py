"""Incidents: everything that operators are told while a gateway runs, by kind. One line each, through the standard library's
`logging`, on the logger `sluice.KIND`; an app around `PolicyMiddleware` handles them as it handles its other loggers.

Levels mean something. error: something was lost, or somebody was not served as the policy says, and a person must look.
warning: it works, but not with all that it was set up with, or soon not. info: what is worth knowing afterwards. What is told
holds no prompt and no key; what an exception says may hold either, and stands in no line that this program writes (`logs`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from logging import ERROR, INFO, WARNING
from typing import Final

ROOT: Final = "sluice"
OFTEN: Final = 20  # lines of one kind in a minute
LONGEST: Final = 8_192


@dataclass(frozen=True, slots=True)
class Incident:
    """One kind. most: lines of it in a minute, 0 for any number; what is more is counted and told with the next."""

    level: int
    meaning: str
    most: int = OFTEN


INCIDENTS: Final = {
    "server.started": Incident(INFO, "the process serves: where, and by which policy", 0),
    "server.worker-ended": Incident(ERROR, "a worker ended unasked; it is started again"),
    "identity.key-drawn": Incident(WARNING, "no lasting hash key is set: hashes will not join with those of another run"),
    "policy.loaded": Incident(INFO, "a policy was loaded again and is in force", 0),
    "policy.refused": Incident(ERROR, "a policy could not be loaded; the one before stays in force", 0),
    "policy.finding": Incident(WARNING, "what `sluice check` has to say of the policy in force, or of its geo files", 0),
    "rule.set-aside": Incident(ERROR, "a rule that keeps failing rests for a while"),
    "file.not-read": Incident(WARNING, "a file that changed could not be read again; what it said before holds"),
    "directory.unavailable": Incident(WARNING, "the account directory does not answer, or its file cannot be read"),
    "upstream.unavailable": Incident(WARNING, "an upstream gives no connection"),
    "audit.refused": Incident(ERROR, "audit records were not written, or not as they should be"),
    "audit.written": Incident(INFO, "audit records that were held are written"),
    "metrics.lost": Incident(WARNING, "metrics could not be sent to their OTLP endpoint"),
    "admin.guessed": Incident(WARNING, "many requests with wrong tokens reach the admin listener", 1),
    "usage.not-read": Incident(ERROR, "a protocol broke on an answer: its usage is not counted"),
    "client.refused": Incident(WARNING, "bytes of a client are no request that may be passed on; its connection is closed"),
    "defect": Incident(ERROR, "something of this program, or of a plugin, broke; the request was answered and settled"),
    "library": Incident(WARNING, "what libraries log, at their own levels"),
}


def report(kind: str, text: str, *, error: BaseException | None = None, **told: str) -> None:
    """Tell operators. told: what it is about, such as `decision` (its id) and `trace`. Raises KeyError for an unknown kind."""
    incident = INCIDENTS[kind]
    logging.getLogger(f"{ROOT}.{kind}").log(incident.level, "%s", text[:LONGEST], exc_info=error, extra={"told": told})


def kind_of(logger: str) -> str:
    """The kind of what was logged there."""
    kind = logger.removeprefix(f"{ROOT}.")
    return kind if logger != kind and kind in INCIDENTS else "library"
