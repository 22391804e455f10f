"""What stands in an exchange's way before any rule looks at it: what it lacks itself, and what the gateway lacks."""

from __future__ import annotations

from gateway.dependencies import Dependencies
from gateway.facts import Cause, Freshness
from gateway.failing import Dependency
from gateway.signals import View

_LOOKED_UP = {
    Freshness.UNAVAILABLE: Cause.DIRECTORY_UNAVAILABLE,
    Freshness.UNREADABLE: Cause.ACCOUNT_UNREADABLE,
}


def failing_of(view: View, dependencies: Dependencies) -> frozenset[Dependency]:
    """What fails now and may touch this exchange; nothing does where it was recorded, whose cause says what did then.

    Of the directory and the upstreams each exchange finds out for itself.
    """
    facts = view.facts
    if facts.recorded is not None:
        return frozenset()
    found = dependencies.now(facts.at)
    if found:
        found = found - {Dependency.STATE, Dependency.DIRECTORY, Dependency.UPSTREAM}
    old = facts.looked_up is not None and facts.looked_up.freshness in (Freshness.STALE, Freshness.UNAVAILABLE)
    return found | {Dependency.DIRECTORY} if old else found


def causes_of(view: View, dependencies: Dependencies, failing: frozenset[Dependency]) -> list[Cause]:
    """Everything that is wrong with an exchange, as it came."""
    facts = view.facts
    found = [facts.cause] if facts.cause else []
    if failing:
        found += dependencies.causes(failing)
    return found if facts.recorded is not None or facts.account is not None else [*found, *_of_the_credential(view)]


def _of_the_credential(view: View) -> list[Cause]:
    """A request with two keys must also pass what is asked of the one it is judged by."""
    facts = view.facts
    if facts.credential is None:
        return [Cause.CREDENTIAL_MISSING]
    known, found = view.get("account.known"), [Cause.CREDENTIAL_AMBIGUOUS] if facts.credentials > 1 else []
    if facts.looked_up is not None and (cause := _LOOKED_UP.get(facts.looked_up.freshness)) is not None:
        return [*found, cause]
    return [*found, Cause.CREDENTIAL_UNKNOWN] if known is False else found
