"""What the shipped packs find in captured requests of real clients: per class and client, which packs and rules match.

    python -m tests.bench.corpus [--corpus ../shared/corpus/requests] [--class relay] [--over 8h] [--without-markers]
                                 [--without RULE …] [--json]

Every file is one client, replayed by itself: as one account, or, in files of relays, every upstream key as its own account and
org. Captured times are those of a loopback, so the requests are spread evenly over a span in their recorded order. The packs
run in shadow: nothing is refused. `--without` leaves rules out, to see what is found when one of them is evaded.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.decision import Action, Mode
from gateway.errors import Place
from gateway.language.compile import load as load_policy
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange
from gateway.replay.sources import Reader
from gateway.values import parse_duration
from gateway.web.intake import Intake

HASH_KEY = b"a key of the bench's own"
START = 1_793_500_000
RULES = Path(__file__).parents[2] / "rules"


@dataclass
class Found:
    """One file: its requests, and for each rule how many matched, and how many would have done more than be observed."""

    label: str
    client: str
    requests: int = 0
    accounts: set[str] = field(default_factory=set)
    matched: Counter[str] = field(default_factory=Counter)
    acted: Counter[str] = field(default_factory=Counter)

    def packs(self, rules: Mapping[str, int]) -> list[str]:
        return sorted({rule.partition(".")[0] for rule in rules})


def registry(markers: bool = True) -> Registry:
    """The signals, with the shipped markers or with none."""
    settings: dict[str, Any] = {"identity": {"hash_key": HASH_KEY}}
    if markers:
        return load_registry(settings)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "markers.yaml"
        empty.write_text("markers: []\n")
        return load_registry({**settings, "reseller": {"markers": empty}})


def policy_of(signals: Registry, without: Sequence[str] = ()) -> Policy:
    """The shipped packs, with rules left out."""
    found = load_policy([RULES], signals.signals)
    unknown = set(without) - {rule.id for rule in found.rules}
    if unknown:
        raise SystemExit(f"no such rules: {', '.join(sorted(unknown))}")
    return replace(found, rules=tuple(rule for rule in found.rules if rule.id not in without))


def exchanges(file: Path, reader: Reader, over: int) -> Iterator[Exchange]:
    """The exchanges of one file, spread evenly over so many µs in the order they were recorded."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    entries.sort(key=lambda entry: entry["ts"])
    step = over / max(1, len(entries)) / 1e6
    for number, entry in enumerate(entries):
        client, key = entry["client"], entry.get("upstream_key")
        account = str(client) if key is None else f"{client}#{key}"
        spread = {**entry, "ts": START + number * step, "account": {"id": account, "org": account}}
        yield reader.exchange(json.dumps(spread).encode(), Place(file.name, number + 1, 1))


def look(file: Path, reader: Reader, policy: Policy, over: int) -> Found:
    """What the packs find in one file."""
    label, _, client = file.name.removesuffix(".jsonl.gz").partition("__")
    found = Found(label, client)
    for played in replay(exchanges(file, reader, over), policy, reader.maker.catalogue, Mode.SHADOW):
        found.requests += 1
        found.accounts.add(str(played.judgement.view.get("account.id")))
        for match in played.judgement.outcome.decision.matches():
            found.matched[match.rule] += 1
            if match.would > Action.OBSERVE:
                found.acted[match.rule] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parents[3] / "shared" / "corpus" / "requests")
    parser.add_argument("--class", dest="only", action="append", help="look at files of this class alone")
    parser.add_argument("--over", default="8h", help="the span that a file's requests are spread over")
    parser.add_argument("--without-markers", action="store_true")
    parser.add_argument("--without", nargs="*", default=[], help="rules left out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    files = sorted(options.corpus.glob("*.jsonl.gz"))
    wanted = [file for file in files if not options.only or file.name.partition("__")[0] in options.only]
    if not wanted:
        raise SystemExit(f"no captures in {options.corpus}")
    signals = registry(not options.without_markers)
    policy, reader = policy_of(signals, options.without), Reader(Intake(signals, HASH_KEY), signals.signals)
    found = [look(file, reader, policy, parse_duration(options.over)) for file in wanted]
    print_json(found) if options.json else print_table(found)


def print_json(found: Sequence[Found]) -> None:
    keys = ("label", "client", "requests", "matched", "acted")
    print(json.dumps([{key: getattr(one, key) for key in keys} | {"accounts": len(one.accounts)} for one in found], indent=1))


def print_table(found: Sequence[Found]) -> None:
    for one in found:
        rules = ", ".join(
            f"{rule} {count}" + (f" ({one.acted[rule]} act)" if one.acted[rule] != count else "")
            for rule, count in sorted(one.matched.items())
        )
        print(f"{one.label:8} {one.client:28} {one.requests:>4} requests {len(one.accounts)} accounts  {rules or '-'}")
    by_class: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        by_class[one.label].append(one)
    packs = sorted({pack for one in found for pack in one.packs(one.matched)})
    print("\nfiles with a match (with one that acts), by class and pack")
    print(f"{'':10}{'files':>6}" + "".join(f"{pack:>16}" for pack in packs))
    for label, group in sorted(by_class.items()):
        cells = []
        for pack in packs:
            matched = sum(pack in one.packs(one.matched) for one in group)
            acted = sum(pack in one.packs(+one.acted) for one in group)
            cells.append(f"{f'{matched} ({acted})':>16}")
        print(f"{label:10}{len(group):>6}" + "".join(cells))


if __name__ == "__main__":
    main()
