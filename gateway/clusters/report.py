"""Clusters for people: from the published tree, and from nothing else, one block for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.clusters.families import PLANES

MOST_SHOWN: Final = 6
COUNTED: Final = {"exchanges": "exchanges", "roots": "conversation roots", "slots": "distinct slots", "days": "days"}
HEAD: Final = (
    "  evidence   family      plane     tied of orgs   by chance       odds        p    links     count   first to last"
)
FEW: Final = 200
NEEDS: Final = {
    "payment": ("account.payment",), "device": ("client.device",), "template": ("prompt.template", "prompt.kin"),
    "egress": ("client.network", "client.fingerprint"), "hop": ("prompt.opening",), "session": ("client.session",),
    "signature": ("prompt.signature",), "failover": ("prompt.whole",), "probe": ("reseller.probe", "client.network"),
    "synchrony": ("prompt.template",),
}  # fmt: skip
ALTERNATIVES: Final = ("template",)
CAUTION: Final = (
    "A cluster says that accounts are tied, not by whom, and not that what they do is abuse. An agency that pays for its",
    "customers, a team with several orgs, a declared relay look the same: give such accounts one account.org, or declare them.",
)


def report(tree: Mapping[str, Any]) -> str:
    """The report of a published tree."""
    return "\n".join(_lines(tree)) + "\n"


def _lines(tree: Mapping[str, Any]) -> Iterator[str]:
    source, everybody = tree["source"], tree["population"]
    unread = f", {source['unreadable']:,} unreadable" if source["unreadable"] else ""
    nameless = f", {source['without_account']:,} without an account" if source["without_account"] else ""
    yield f"records   {source['records']:,} read{unread}{nameless}, from {source['from']} to {source['to']}"
    yield f"digest    {source['digest']}, seed {tree['seed']}"
    yield f"accounts  {everybody['accounts']:,} of {everybody['orgs']:,} orgs; the accounts of one org are one party"
    if everybody["orgs"] < FEW:
        yield f"note      fewer than {FEW} orgs: hardly anybody to compare with, so little can be surprising"
    yield from _coverage(tree)
    yield from (f"          {line}" for line in CAUTION)
    yield ""
    count = len(tree["clusters"])
    small, unproven = everybody["groups_too_small"], everybody["groups_unproven"]
    rest = f"{small:,} groups of fewer than {tree['min_size']} orgs, {unproven:,} no more tied than by chance"
    yield f"{count:,} cluster{'' if count == 1 else 's'}; not shown: {rest}"
    if honest := tree.get("honest"):
        bounds = f"{honest['low']:.2%} to {honest['high']:.2%} at 95 %"
        yield f"of {honest['orgs']:,} orgs known to be honest {honest['in_clusters']:,} are in a cluster: {bounds}"
    for cluster in tree["clusters"]:
        yield ""
        yield from _cluster(cluster)


def _coverage(tree: Mapping[str, Any]) -> Iterator[str]:
    """What could not be found, because nobody recorded it or not all of it was looked at."""
    recorded = tree["recorded"]
    blind = []
    for name, signals in NEEDS.items():
        there = [recorded[signal] > 0 for signal in signals]
        if not (any(there) if name in ALTERNATIVES else all(there)):
            blind.append(f"{name} ({' and '.join(signal for signal in signals if not recorded[signal])})")
    if blind:
        yield f"blind     nothing recorded for {', '.join(blind)}"
    partly = [f"{name} {family['share']:.0%}" for name, family in tree["families"].items() if family["share"] < 1]
    if partly:
        yield f"partly    of more values than fit into memory, looked at: {', '.join(partly)}"
    popular = [f"{name} {family['popular']:,}" for name, family in tree["families"].items() if family.get("popular")]
    if popular:
        yield f"popular   values shared by too many to tie anybody: {', '.join(popular)}"


def _cluster(one: Mapping[str, Any]) -> Iterator[str]:
    units = one["units"]
    yield f"{one['id']}   {one['size']:,} accounts of {one['orgs']:,} orgs, {one['first'][:16]} to {one['last'][:16]}"
    told = [_unit(units, key, noun) for key, noun in COUNTED.items()]
    yield f"  units      {', '.join(told)}"
    if units["roots"]:
        yield f"             {units['exchanges'] / units['roots']:.1f} exchanges for each root; {units['refused']:,} refused"
    yield f"             {units['input_tokens']:,} tokens in, {units['output_tokens']:,} out"
    if units["declared"]:
        yield f"             {units['declared']:,} exchanges are covered by a declared workload"
    yield HEAD
    for name, said in one["evidence"].items():
        tied = f"{said['tied']:,}/{one['orgs']:,}"
        p = f"{'≤' if said['p'] <= said['p_floor'] else ''}{said['p']:.3g}"
        days = f"{said['first'][:10]} to {said['last'][:10]}"
        yield (
            f"             {name:<11} {PLANES[name]:<9} {tied:>12} {said['expected']:>11,.4g} {said['odds']:>10,.4g} {p:>8}"
            f" {said['links']:>8,} {said['count']:>9,}   {days}"
        )
    yield "  without    " + ", ".join(f"{name}: {_rest(rest, one['orgs'])}" for name, rest in one["without"].items())
    for link in one["links"][:MOST_SHOWN]:
        yield (
            f"  link       {link['family']} {link['what']}: {link['orgs']:,} of its {link['holders']:,} holders,"
            f" {link['count']:,} exchanges, expected {link['expected']:.3g}, odds {link['odds']:,.3g}, p {link['p']:.1e}"
        )
    hidden = len(one["links"]) - MOST_SHOWN + one["more_links"]
    if hidden > 0:
        yield f"             and {hidden:,} more links, in the JSON"


def _unit(units: Mapping[str, Any], key: str, noun: str) -> str:
    return f"{noun} not recorded" if units[key] is None else f"{units[key]:,} {noun}"


def _rest(rest: Mapping[str, Any], orgs: int) -> str:
    return "nothing" if not rest["orgs"] else f"{rest['orgs']:,} of {orgs:,} orgs in {rest['pieces']:,}"
