"""The case, labelled, through the shipped packs: who is seen, by how many families of evidence, and what honest callers pay.

    python -m tests.bench.case [--set case+benign] [--scale 100] [--seed 1] [--engine events|columns] [--without-markers]
                               [--keep FILE] [--json]

The packs run at their shipped thresholds, as if every shadow rule were enforced. Of each scenario: exchanges, how many of them
a rule matched, and whether its account was matched by two families of evidence or more within the 24 hours up to the exchange
(of all exchanges, and of those that come a day or later after the scenario's first); exchanges that would be throttled, asked
to verify or denied, and owners denied anything. `--without-markers` empties the lists of literal markers. The declared relay
(R2) is declared where the event engine runs; the column engine takes no declarations, and leaves it undeclared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gateway.columns.dry_run import named
from gateway.columns.judging import Judging
from gateway.columns.records import Records
from gateway.decision import Mode, Outcome, Verdict
from gateway.language.compile import load as load_policy
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.replay.driver import replay
from gateway.replay.parquet import Writer, exchanges
from gateway.simulate.table import DAY
from gateway.simulate.traffic import Traffic
from tests.bench.corpus import HASH_KEY, RULES, registry

KEYS = 4_000_000  # of each window, so that none of the whole case is forgotten
LABELS = ("throttle", "verify", "deny")


@dataclass
class Seen:
    """Every exchange in columns. matched: families as bits; action: as if nothing were in shadow."""

    policy: Policy
    at: list[Any] = field(default_factory=list)
    scenario: list[Any] = field(default_factory=list)
    account: list[Any] = field(default_factory=list)
    org: list[Any] = field(default_factory=list)
    matched: list[Any] = field(default_factory=list)
    action: list[Any] = field(default_factory=list)
    rules: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    codes: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    judged: dict[int, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.families = sorted({str(rule.family) for rule in self.policy.rules})
        self._bits = {rule.id: 1 << self.families.index(str(rule.family)) for rule in self.policy.rules}

    def code(self, what: str, values: Any) -> Any:
        """Small numbers for texts: of a column of Arrow with a dictionary, one look at each different one."""
        if isinstance(values, pa.ChunkedArray):
            return np.concatenate([self.code(what, part) for part in values.chunks])
        if isinstance(values, pa.DictionaryArray):
            numbers = np.append(self.code(what, values.dictionary.to_pylist()), self.code(what, [""]))
            return numbers[np.asarray(values.indices.fill_null(len(numbers) - 1))]
        known = self.codes[what]
        return np.asarray([known.setdefault(value or "", len(known)) for value in values], dtype=np.int32)

    def told(self, outcome: Outcome) -> tuple[int, str, tuple[str, ...]]:
        """The families that matched and are not excused, the action as if nothing were in shadow, and the rules."""
        bits, names = 0, []
        for end in outcome.decision.ends:
            if end.verdict is Verdict.MATCH and not end.excepted and not end.abstained:
                bits |= self._bits[end.rule]
                names.append(end.rule)
        return bits, str(outcome.would), tuple(names)


def in_events(file: Path, seen: Seen, signals: Registry) -> None:
    """One exchange after the other."""
    rows: list[tuple[Any, ...]] = []
    for one in replay(exchanges(str(file), signals.signals), seen.policy, signals.signals, Mode.ENFORCE, max_keys=KEYS):
        bits, action, names = seen.told(one.judgement.outcome)
        get = one.judgement.view.get
        seen.rules[one.exchange.scenario or ""].update(names)
        rows.append((one.exchange.facts.at, one.exchange.scenario, get("account.id"), get("account.org"), bits, action))
    for name, values in zip(("at", "scenario", "account", "org", "matched", "action"), zip(*rows, strict=True), strict=True):
        numbers = np.asarray(values) if name in ("at", "matched") else seen.code(name, values)
        getattr(seen, name).append(numbers)


def in_columns(file: Path, seen: Seen, signals: Registry) -> None:
    """Many at once."""
    records = Records([str(file)], signals.signals, named(seen.policy, signals.signals))
    judging = Judging(seen.policy, signals.signals, Mode.ENFORCE, None, most=KEYS)
    for chunk in records.chunks():
        for judged in judging.judge(chunk, records):
            part = judged.chunk
            outcomes = [seen.told(one) for one in judged.outcomes]
            classes = judged.classes.copy()
            for row, outcome in judged.single.items():
                classes[row] = len(outcomes)
                outcomes.append(seen.told(outcome))
            scenario = seen.code("scenario", _encoded(part.arrays["scenario"]))
            seen.at.append(part.at)
            seen.scenario.append(scenario)
            for name in ("account", "org"):
                column = part.arrays["account.id" if name == "account" else "account.org"]
                getattr(seen, name).append(seen.code(name, _encoded(column)))
            seen.matched.append(np.asarray([bits for bits, *_ in outcomes])[classes])
            seen.action.append(seen.code("action", [action for _, action, _ in outcomes])[classes])
            count(seen, scenario, classes, outcomes)


def _encoded(column: Any) -> Any:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def count(seen: Seen, scenario: Any, classes: Any, outcomes: list[tuple[int, str, tuple[str, ...]]]) -> None:
    """Add up which rules matched, class by class."""
    names = list(seen.codes["scenario"])
    pairs, times = np.unique(scenario.astype(np.int64) * len(outcomes) + classes, return_counts=True)
    for pair, many in zip(pairs.tolist(), times.tolist(), strict=True):
        place, ended = divmod(pair, len(outcomes))
        for rule in outcomes[ended][2]:
            seen.rules[names[place]][rule] += many


def families_within(at: Any, account: Any, matched: Any, families: int, within: int = DAY) -> Any:
    """By how many families the account of each exchange was matched within a time up to it, that exchange included."""
    order = np.lexsort((np.arange(len(at)), account))
    times, who, bits = at[order], account[order], matched[order]
    begins = np.append(0, np.flatnonzero(np.diff(who)) + 1)
    first = np.zeros(len(times), dtype=np.int64)
    first[begins] = begins
    first = np.maximum.accumulate(first)
    found = np.zeros(len(times), dtype=np.int64)
    places = np.arange(len(times))
    for family in range(families):
        last = np.maximum.accumulate(np.where(bits >> family & 1, places, -1))
        found += (last >= first) & (times - times[np.maximum(last, 0)] <= within)
    result = np.empty(len(times), dtype=np.int64)
    result[order] = found
    return result


def rows(seen: Seen) -> Iterator[dict[str, Any]]:
    """One row for each scenario."""
    at, scenario, account, org, matched, action = (
        np.concatenate(getattr(seen, name)) for name in ("at", "scenario", "account", "org", "matched", "action")
    )
    two = families_within(at, account, matched, len(seen.families)) >= 2
    actions = list(seen.codes["action"])
    for name, place in seen.codes["scenario"].items():
        here = scenario == place
        if not here.any():  # a dictionary holds words that no row has
            continue
        late = here & (at >= at[here].min() + DAY)
        done = {label: int((here & (action == actions.index(label))).sum()) if label in actions else 0 for label in LABELS}
        denied = here & (action == actions.index("deny")) if "deny" in actions else np.zeros(len(at), dtype=bool)
        yield {
            "scenario": name, "exchanges": int(here.sum()), "accounts": len(np.unique(account[here])),
            "matched": float((matched[here] > 0).mean()), "two_families": float(two[here].mean()),
            "two_families_after_a_day": float(two[late].mean()) if late.any() else None,
            **done, "orgs_denied": len(np.unique(org[denied])), "rules": dict(seen.rules[name].most_common()),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="case+benign", dest="name")
    parser.add_argument("--scale", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["events", "columns"], default="columns")
    parser.add_argument("--without-markers", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep the traffic here; judge what is there already")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signals = registry(not asked.without_markers)
    with tempfile.TemporaryDirectory() as folder:
        file, declared = asked.keep or Path(folder) / "traffic.parquet", Path(folder) / "declared.yaml"
        began = time.perf_counter()
        traffic = Traffic(asked.name, asked.scale, asked.seed)
        if not file.exists():
            write(traffic, file, signals)
        made = time.perf_counter()
        declared.write_text(traffic.declarations())
        declares = asked.engine == "events" and declared.stat().st_size
        seen = Seen(load_policy([RULES, declared] if declares else [RULES], signals.signals))
        (in_events if asked.engine == "events" else in_columns)(file, seen, signals)
        judged = time.perf_counter()
    found = list(rows(seen))
    tell(
        found,
        asked.json,
        f"{asked.name} 1:{asked.scale:g}, {asked.engine}, made in {made - began:.0f} s, judged in {judged - made:.0f} s",
    )


def write(traffic: Traffic, file: Path, signals: Registry) -> None:
    writer: Writer | None = None
    for table in traffic.compact(signals, HASH_KEY):
        writer = writer or Writer(file, table.schema)
        writer.write(table)
    if writer is not None:
        writer.close()


def tell(found: list[dict[str, Any]], as_json: bool, head: str) -> None:
    if as_json:
        print(json.dumps({"run": head, "scenarios": found}, indent=1))
        return
    print(head)
    print("scenario   exchanges accounts  matched   2 fam. after 1 d throttle  verify  deny")
    for row in found:
        late = row["two_families_after_a_day"]
        print(
            f"{row['scenario']:<9}{row['exchanges']:>11,}{row['accounts']:>9,}{row['matched']:>9.1%}{row['two_families']:>9.1%}"
            f"{'-' if late is None else f'{late:.1%}':>10}{row['throttle']:>9,}{row['verify']:>8,}{row['deny']:>6,}"
        )
    honest = [row for row in found if row["scenario"][0] not in "DX" and row["scenario"] != "R1"]
    guilty = [row for row in found if row["scenario"] in ("D1", "D2", "D3")]
    for text, part in (("honest", honest), ("R1", [row for row in found if row["scenario"] == "R1"])):
        if total := sum(row["exchanges"] for row in part):
            sums = {label: sum(row[label] for row in part) for label in LABELS}
            shares = ", ".join(f"{label} {many:,} ({many / total:.4%})" for label, many in sums.items())
            print(f"{text}: {total:,} exchanges; {shares}; owners denied {sum(row['orgs_denied'] for row in part)}")
    if total := sum(row["exchanges"] for row in guilty):
        print(
            f"D1 to D3: two families {sum(row['exchanges'] * row['two_families'] for row in guilty) / total:.1%} of {total:,}"
        )
    for row in found:
        told = ", ".join(f"{rule} {many / row['exchanges']:.1%}" for rule, many in list(row["rules"].items())[:8])
        print(f"{row['scenario']:<5}{told}")


if __name__ == "__main__":
    main()
