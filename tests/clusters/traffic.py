"""Generated audit records with known truth: rings, relays, and the honest traffic that looks most like them.

Every scenario is a function of a seeded source that yields records as the gateway writes them, cut down to what clusters
read, and says in its docstring what it stands for. Truth is the prefix of an org's name (`ring-…`), which no code under test
looks at; a test shuffles names to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from gateway.values import SECOND, timestamp_text

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BEGIN = 1_790_000_000 * SECOND // DAY * DAY
DAYS = 10
Entry = dict[str, Any]
Scenario = Callable[[Random, float], Iterator[Entry]]


def entry(at: int, org: str, signals: dict[str, object], account: str = "", status: int = 200) -> Entry:
    """One record. account: the only one of the org, if left out."""
    named = {"account.id": account or f"{org}-key", "account.org": org, **signals}
    usage = {"input_tokens": 400, "output_tokens": 300}
    return {"v": 1, "at": timestamp_text(at), "policy": {}, "signals": named, "answer": {"status": status, "usage": usage}}


def said(rng: Random, template: str, **more: object) -> dict[str, object]:
    """A prompt of a template, filled with something new."""
    slots = f"slots-{rng.getrandbits(60):x}"
    told = {"prompt.template": template, "prompt.slots": slots, "prompt.root": slots, "prompt.whole": f"whole-{slots}"}
    return {**told, **more}


def client(network: str, fingerprint: str) -> dict[str, object]:
    return {"client.network": network, "client.fingerprint": fingerprint}


def some_time(rng: Random) -> int:
    """A time of day as people have it: few at night."""
    hour = rng.choices(range(24), [1, 1, 1, 1, 1, 2, 3, 5, 8, 9, 9, 9, 8, 9, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1])[0]
    return BEGIN + rng.randrange(DAYS) * DAY + hour * HOUR + rng.randrange(HOUR)


def normal(rng: Random, scale: float) -> Iterator[Entry]:
    """Honest API customers: own cards, private templates beside public ones, a few behind mobile NATs, Zipf rates."""
    orgs = int(2_000 * scale)
    for number in range(orgs):
        org, card = f"normal-{number}", {"account.payment": f"card-n{number}"} if rng.random() < 0.9 else {}
        network = f"nat-{rng.randrange(40)}" if rng.random() < 0.15 else f"net-n{number}"
        finger = f"sdk-{min(int(rng.paretovariate(0.7)), 30)}"
        templates = [f"own-{number}-{place}" for place in range(rng.randrange(1, 4))]
        templates += [f"public-{min(int(rng.paretovariate(0.8)), 40)}" for _ in range(rng.randrange(3))]
        for _ in range(min(300, int(6 * rng.paretovariate(1.1)))):
            yield entry(some_time(rng), org, {**card, **client(network, finger), **said(rng, rng.choice(templates))})


def ring(rng: Random, scale: float) -> Iterator[Entry]:
    """A ring as public reports describe them: round robin, a card for every eight accounts, six templates, six networks."""
    count = int(60 * scale)
    for place in range(count * 60):
        member = place % count
        at = BEGIN + place * 7 * DAY // (count * 60) + rng.randrange(MINUTE)
        told = said(rng, f"ring-template-{rng.randrange(6)}")
        yield entry(
            at,
            f"ring-{member}",
            {"account.payment": f"card-r{member // 8}", **client(f"net-r{member % 6}", "ring-sdk"), **told},
        )


def slow(rng: Random, scale: float) -> Iterator[Entry]:
    """Low and slow: 5.6 requests a day, each account from a home of its own, three templates, a card for every six."""
    for member in range(int(60 * scale)):
        for _ in range(56):
            network = client(f"home-{member}", f"sdk-{member % 5 + 1}")
            told = said(rng, f"slow-template-{rng.randrange(3)}")
            yield entry(some_time(rng), f"slow-{member}", {"account.payment": f"card-s{member // 6}", **network, **told})


def scattered(rng: Random, scale: float) -> Iterator[Entry]:
    """The same with a card for each account: one template is all that is shared, and honest strangers share that, too."""
    for member in range(int(40 * scale)):
        for _ in range(56):
            told = {"account.payment": f"card-x{member}", **client(f"home-x{member}", f"sdk-{member % 5 + 1}")}
            yield entry(some_time(rng), f"scattered-{member}", {**told, **said(rng, "scattered-template")})


def lockstep(rng: Random, scale: float) -> Iterator[Entry]:
    """A scheduler that sends batches to all of its accounts at once; own cards, one template, three exits."""
    count = int(40 * scale)
    batches = [BEGIN + rng.randrange(DAYS * DAY) for _ in range(60)]
    for batch in batches:
        for member in range(count):
            if rng.random() < 0.8:
                told = {"account.payment": f"card-l{member}", **client(f"net-l{member % 3}", "lock-sdk")}
                yield entry(batch + rng.randrange(20 * SECOND), f"lockstep-{member}", {**told, **said(rng, "lock-template")})


def relay(rng: Random, scale: float) -> Iterator[Entry]:
    """A credential pool that resells to ordinary users: any template, conversations dealt to any account, refusals passed on.

    A card for every five accounts; what the users say is as varied as anybody's.
    """
    count = int(50 * scale)
    for number in range(count * 20):
        at, template = some_time(rng), f"user-{number % (count * 6)}"
        root, opening = f"root-{number}", f"opening-{number}"
        for turn in range(rng.randrange(2, 7)):
            member = rng.randrange(count)
            told = said(rng, template, **{"prompt.root": root})
            if turn:
                told["prompt.opening"] = opening
            told |= {"account.payment": f"card-p{member // 5}", **client(f"exit-{rng.randrange(8)}", "relay")}
            at += 40 * SECOND
            if rng.random() < 0.02:
                yield entry(at, f"relay-{member}", told, status=429)
                member = (member + 1) % count
                told |= {"account.payment": f"card-p{member // 5}"}
            yield entry(at + SECOND, f"relay-{member}", told)


def campus(rng: Random, scale: float) -> Iterator[Entry]:
    """A course: one NAT, one SDK, the same starter templates, all in the same lab hours; some share a room-mate's card."""
    for student in range(int(80 * scale)):
        card = {"account.payment": f"card-c{student // 2}"} if student < 16 else {}
        for _ in range(40):
            day, hour = rng.choice((1, 3, 8)), rng.choice((9, 10, 15))
            at = BEGIN + day * DAY + hour * HOUR + rng.randrange(HOUR)
            template = f"starter-{rng.randrange(2)}" if rng.random() < 0.7 else f"own-c{student}"
            yield entry(at, f"campus-{student}", {**card, **client("campus", "sdk-1"), **said(rng, template)})


def corporate(rng: Random, scale: float) -> Iterator[Entry]:
    """One company's gateway: forty keys of one org, one card, one exit, every relay's marks, conversations on any key."""
    for number in range(int(600 * scale)):
        at = some_time(rng)
        for turn in range(4):
            told = said(
                rng, f"corp-{number % 3}", **{"prompt.root": f"corp-root-{number}", "prompt.opening": f"corp-open-{number}"}
            )
            told |= {"account.payment": "card-corp", **client("corp", "corp-gw")}
            yield entry(at + turn * MINUTE, "corporate", told, f"corporate-{rng.randrange(40)}")


def benchmark(rng: Random, scale: float) -> Iterator[Entry]:
    """Eight labs run one public suite on release day, in the same order, with refusals that each tries again itself."""
    for lab in range(8):
        at = BEGIN + 5 * DAY + 9 * HOUR + lab * MINUTE
        for item in range(int(200 * scale)):
            told = {"prompt.template": "harness", "prompt.slots": f"item-{item}", "prompt.root": f"item-{item}"}
            told |= {"prompt.whole": f"whole-item-{item}", "account.payment": f"card-b{lab}"}
            signals = {**told, **client(f"cloud-{lab}", "harness-sdk")}
            at += 4 * SECOND + rng.randrange(3 * SECOND)
            if rng.random() < 0.1:
                yield entry(at, f"benchmark-{lab}", signals, status=429)
                at += 8 * SECOND
            yield entry(at, f"benchmark-{lab}", signals)


def viral(rng: Random, scale: float) -> Iterator[Entry]:
    """An app whose users bring their own keys: one template, one fingerprint, one device id out of its image, mobile NATs."""
    for user in range(int(150 * scale)):
        for _ in range(12):
            told = {"account.payment": f"card-v{user}", "client.device": "image", **client(f"nat-{user % 6}", "viral-sdk")}
            yield entry(some_time(rng), f"viral-{user}", {**told, **said(rng, "viral-template")})


def cron(rng: Random, scale: float) -> Iterator[Entry]:
    """A tool with a built-in schedule: strangers who send one template in one odd minute of every hour of the day."""
    for org in range(int(20 * scale)):
        for hour in range(0, DAYS * 24, 4):
            at = BEGIN + hour * HOUR + 17 * MINUTE + rng.randrange(MINUTE)
            told = {"account.payment": f"card-t{org}", **client(f"net-t{org}", "tool-sdk")}
            yield entry(at, f"cron-{org}", {**told, **said(rng, "tool-template")})


def guide(rng: Random, scale: float) -> Iterator[Entry]:
    """Readers of one guide: the same worked examples stand before every question, and the same template after them."""
    for org in range(int(12 * scale)):
        for number in range(20):
            told = said(rng, "guide-template", **({"prompt.opening": "guide-examples"} if number % 2 else {}))
            signals = {"account.payment": f"card-g{org}", **client(f"net-g{org}", f"sdk-{org % 4 + 1}"), **told}
            yield entry(some_time(rng), f"guide-{org}", signals)


def agents(rng: Random, scale: float) -> Iterator[Entry]:
    """Coding agents of many people: a public template, long conversations, own devices; some moved from one org to the next."""
    for user in range(int(100 * scale)):
        for number in range(3):
            at = some_time(rng)
            for turn in range(10):
                moved = user % 10 == 0 and turn > 5
                told = said(rng, "public-1", **{"prompt.root": f"agent-{user}-{number}"})
                told |= {"prompt.opening": f"agent-open-{user}-{number}"} if turn else {}
                told |= {"account.payment": f"card-a{user}{'b' if moved else ''}", "client.device": f"device-{user}"}
                told |= client(f"net-a{user}", "agent-cli")
                yield entry(at + turn * MINUTE, f"agents-{user}{'-new' if moved else ''}", told)


def agency(rng: Random, scale: float) -> Iterator[Entry]:
    """An agency with nine customers of its own orgs, its card, its server and its template: honest, and built like a ring."""
    for number in range(int(9 * scale) * 30):
        told = {"account.payment": "card-agency", **client("agency", "agency-sdk"), **said(rng, "agency-template")}
        yield entry(some_time(rng), f"agency-{number % 9}", told)


RINGS: dict[str, Scenario] = {"ring": ring, "slow": slow, "lockstep": lockstep, "relay": relay}
HONEST: dict[str, Scenario] = {
    "normal": normal, "campus": campus, "corporate": corporate, "benchmark": benchmark, "viral": viral, "cron": cron,
    "guide": guide, "agents": agents,
}  # fmt: skip
HARD: dict[str, Scenario] = {"scattered": scattered, "agency": agency}


def records(*scenarios: Scenario, seed: int = 1, scale: float = 1.0) -> list[Entry]:
    """The records of some scenarios, in order of time."""
    found = [one for scenario in scenarios for one in scenario(Random(f"{seed} {scenario.__name__}"), scale)]
    return sorted(found, key=lambda one: (one["at"], one["signals"]["account.id"]))


def kind(org: str) -> str:
    """The truth about an org."""
    return org.partition("-")[0]
