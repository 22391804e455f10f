"""Packs to one `Policy`: files read, everything checked across packs, frozen, digested.

All problems of all files are reported at once. Packs together are bounded (bytes, rules, comparisons), as each
file is by itself. The digest is taken over the canonical form, in which order, comments and
short forms no longer show: equal meaning gives an equal digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.errors import LoadError, Place, PolicyError, Problem
from gateway.language.campaigns import Workload
from gateway.language.conditions import Leaf
from gateway.language.measures import Measure, Ratio
from gateway.language.packs import LANGUAGE, Pack, read_pack
from gateway.language.policy import PlanLimit, Policy, Rule
from gateway.language.text import UNICODE, TextView
from gateway.language.workloads import is_workloads, read_workloads
from gateway.signals import Catalogue
from gateway.strict.document import Node, read, seen
from gateway.strict.shapes import Problems

MAX_TOTAL: Final = 32 * 1024 * 1024
MAX_RULES: Final = 10_000
MAX_COMPARISONS: Final = 50_000


def pack_files(paths: Iterable[Path]) -> list[Path]:
    """The pack files among paths: files as named, folders searched for `*.yaml` (tests and data left out)."""
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.glob("*.yaml") if is_pack(p)) if seen(path, Path.is_dir) else [path]
    return list(dict.fromkeys(found))


def unread(paths: Iterable[Path]) -> list[Path]:
    """Files in these folders that look like packs and would be passed over in silence."""
    return [file for path in paths if seen(path, Path.is_dir) for file in sorted(path.glob("*.yml"))]


def is_pack(path: Path) -> bool:
    """Whether a file of a rules folder is a pack by its name."""
    return not path.name.endswith(".test.yaml")


def load(paths: Sequence[Path], catalogue: Catalogue) -> Policy:
    """The policy of these files and folders. Raises PolicyError with every problem found."""
    problems, nodes = Problems(raises=PolicyError), []
    files = pack_files(paths)
    if not files:
        named = ", ".join(str(path) for path in paths) or "no path"
        raise PolicyError([Problem(Place(named), "holds no pack", "name a .yaml file or a folder that has some")])
    for path in unread(paths):
        problems.add(Place(str(path)), "is not read: packs end in .yaml", "rename it")
    if sum(path.stat().st_size for path in files if seen(path, Path.is_file)) > MAX_TOTAL:
        what = f"the packs together are larger than {MAX_TOTAL // 2**20} MiB"
        raise PolicyError([Problem(Place(str(paths[0])), what, "load fewer")])
    for path in files:
        try:
            nodes.append(read(path))
        except LoadError as error:
            problems.found += error.problems
    return compile_nodes(nodes, catalogue, problems)


def compile_nodes(nodes: Iterable[Node], catalogue: Catalogue, problems: Problems | None = None) -> Policy:
    """The policy of YAML trees, packs and workloads. Raises PolicyError with every problem found."""
    problems = problems or Problems(raises=PolicyError)
    trees = list(nodes)
    packs = [pack for node in trees if not is_workloads(node) and (pack := read_pack(node, catalogue, problems)) is not None]
    workloads = [found for node in trees if is_workloads(node) for found in read_workloads(node, catalogue, problems)]
    _unique(packs, workloads, problems)
    _bounded(packs, problems)
    if problems.found:
        raise PolicyError(problems.found)
    rules = sorted((rule for pack in packs for rule in pack.rules), key=lambda rule: rule.id)
    limits = sorted((limit for pack in packs for limit in pack.limits), key=lambda limit: limit.limit.id)
    workloads.sort(key=lambda workload: workload.id)
    lists = {(pack.name, name): found for pack in packs for name, found in pack.lists.items()}
    canonical = {
        "language": LANGUAGE,
        "packs": {pack.name: pack.version for pack in sorted(packs, key=lambda pack: pack.name)},
        "rules": [rule.canonical() for rule in rules],
        "limits": [limit.canonical() for limit in limits],
        "workloads": [workload.canonical() for workload in workloads],
        "lists": {"/".join(key): sorted(str(v) for v in found.values) for key, found in sorted(lists.items())},
    }
    if any(leaf.view is TextView.NORMALISED for leaf in _leaves(rules, limits)):
        canonical["unicode"] = UNICODE
    text = json.dumps(canonical, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Policy(
        rules=tuple(rules),
        limits=tuple(limits),
        lists=lists,
        packs={pack.name: pack.version for pack in packs},
        digest="sha256:" + sha256(text.encode()).hexdigest(),
        measures=tuple(_measures(rules, workloads)),
        corroborations=tuple({(c.within, c.per): c for rule in rules if (c := rule.corroborate)}.values()),
        workloads=tuple(workloads),
        places={pack.name: pack.node.at("version") for pack in packs},
    )


def _leaves(rules: Iterable[Rule], limits: Iterable[PlanLimit]) -> Iterator[Leaf]:
    """Every comparison of a policy, those inside measures and limits included."""
    for rule in rules:
        yield from rule.when.leaves()
        for declared in rule.measures.values():
            for part in (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,):
                yield from part.where.leaves() if part.where else ()
    for limit in limits:
        yield from limit.when.leaves() if limit.when else ()


def _bounded(packs: Sequence[Pack], problems: Problems) -> None:
    rules = [rule for pack in packs for rule in pack.rules]
    leaves = sum(1 for rule in rules for _ in rule.when.leaves())
    for found, most, what in ((len(rules), MAX_RULES, "rules"), (leaves, MAX_COMPARISONS, "comparisons")):
        if found > most:
            problems.add(packs[0].node.place, f"{found} {what} in all packs, but {most} is the most", "load fewer")


def _unique(packs: list[Pack], workloads: list[Workload], problems: Problems) -> None:
    seen: dict[str, Place] = {}
    named: list[tuple[str, Place]] = [(f"pack '{pack.name}'", pack.node.place) for pack in packs]
    for pack in packs:
        named += [(f"id '{rule.id}'", rule.place) for rule in pack.rules]
        named += [(f"id '{limit.limit.id}'", limit.place) for limit in pack.limits]
    named += [(f"workload '{workload.id}'", workload.place) for workload in workloads]
    for what, place in named:
        if what in seen:
            problems.add(place, f"{what} is already taken at {seen[what]}", "ids are unique and never reused")
        seen.setdefault(what, place)


def _measures(rules: Iterable[Rule], workloads: Iterable[Workload]) -> Iterable[Measure]:
    parted = [part for workload in workloads for part in (workload.ceiling, workload.items) if part is not None]
    found = {part.measure.label: part.measure for part in parted}
    for rule in rules:
        for declared in rule.measures.values():
            parts = (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,)
            found.update({part.label: part for part in parts})
    return [found[label] for label in sorted(found)]
