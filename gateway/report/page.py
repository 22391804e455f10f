"""A report as one page that stands for itself: no network, no second file; light, dark, on a phone and on paper.

The template is `page.html`; it escapes everything. Charts are drawn by plotly's script, which is packed into the page (as gzip:
2 MB in place of 4.8 MB) and unpacked by the browser. A content security policy in the page forbids every request.

Plotly 7 was held against Bokeh 3.9 and Vega-Lite (altair 6.3) on one stacked chart. Their scripts are smaller when packed (0.35
and 0.30 MB to its 1.5), but Bokeh draws on canvas, which no style sheet makes dark or fit for paper, and Vega compiles its
expressions, which the page's policy does not allow.
"""

from __future__ import annotations

import gzip
import json
import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gateway.decision import Action
from gateway.errors import ExtraError
from gateway.language.policy import Policy
from gateway.report.charts import ACTIONS, OTHER, SIDES, charts, label_colours, shown
from gateway.report.evaluated import ANY

MOST_ACCOUNTS: Final = 25
_SECTIONS: Final = (
    ("time", "Over time"), ("labels", "Labels"), ("rules", "Rules"), ("units", "Volume"), ("novelty", "Novelty"),
    ("clusters", "Clusters"), ("sweeps", "Thresholds"), ("difference", "Difference"), ("accounts", "Accounts"),
)  # fmt: skip
_FOOTING: Final = (
    "Made by sluice dry-run. Prompts and credentials are not in this page: keyed hashes stand for them. "
    "Numbers speak of what was observed; they name no one behind it."
)
_MARKUP: Final = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
Row = dict[str, Any]


def page(report: Mapping[str, Any], policy: Policy, title: str = "What this policy would do") -> str:
    """The page of a report with `pictures`. Raises ExtraError where jinja2 or plotly is missing."""
    template = _template()
    drawn = charts(report)
    figures = {one.id: one.figure for below in drawn.values() for one in below}
    labels = _labels(report)
    accounts = sorted((one for one in report["accounts"] if one["rules"]), key=_strength)
    filled: dict[str, Any] = {
        "charts": drawn, "labels": labels, "rules": _rules(report, policy), "units": _units(report),
        "clusters": _clusters(report), "accounts": accounts, "differing": _differing(report),
    }  # fmt: skip
    there = {**drawn, **filled, "clusters": True, "difference": "difference" in report}
    filled["accounts"] = accounts[:MOST_ACCOUNTS]
    more = {"more_accounts": max(0, len(accounts) - MOST_ACCOUNTS), "more_sweeps": _unseen(report, drawn)}
    sections = [(anchor, name) for anchor, name in _SECTIONS if there[anchor]]
    told = {"title": title, "period": _period(report), "tiles": _tiles(report), "footing": _FOOTING, "sections": sections}
    return str(template.render(report=report, figures=_script(figures), plotly=_packed(), **more, **told, **filled))


def _unseen(report: Mapping[str, Any], drawn: Mapping[str, Any]) -> int:
    """How many swept thresholds have no chart."""
    return len(report["pictures"]["sweeps"]) - len(drawn["sweeps"])


def ready() -> None:
    """Raises ExtraError where a page cannot be made, so that it is known before a long replay."""
    _template()
    _packed()


def _template() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise ExtraError("--format html", "jinja2", "report") from None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"number": number, "percent": percent, "wait": wait, "shown": shown}
    return environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))


def _script(value: object) -> Any:
    """JSON that may stand in a script element: nothing in it ends the element or begins another."""
    from markupsafe import Markup

    return Markup(json.dumps(value, ensure_ascii=True, separators=(",", ":")).translate(_MARKUP))  # noqa: S704 - translated


@cache
def _packed() -> str:
    """Plotly's script as gzip, in base64. Raises ExtraError where plotly is missing."""
    try:
        import plotly
    except ModuleNotFoundError:
        raise ExtraError("--format html", "plotly", "report") from None
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return b64encode(gzip.compress(script.read_bytes(), 9, mtime=0)).decode()


def number(value: float | None) -> str:
    """A count for people; nothing where there is none."""
    return "" if value is None else f"{value:,}"


def percent(share: float | None) -> str:
    """A share for people: as many digits as it needs."""
    if share is None:
        return "–"
    digits = 0 if share in (0, 1) else 1 if share >= 0.01 else min(6, 1 - math.floor(math.log10(share * 100)))
    return f"{100 * share:.{digits}f}\u202f%"


def wait(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "–"
    units = ((86_400, "d"), (3_600, "h"), (60, "min"))
    return next((f"{seconds / size:.1f} {unit}" for size, unit in units if seconds >= size), f"{seconds:.0f} s")


def _period(report: Mapping[str, Any]) -> str:
    first, last = (str(report["period"][key] or "")[:16].replace("T", " ") for key in ("first", "last"))
    return f"Traffic from {first} to {last} UTC." if first else "No exchange was judged."


def _tiles(report: Mapping[str, Any]) -> list[Row]:
    """The headline numbers."""
    total = report["records"]["judged"]
    refused = {
        view: sum(n for name, n in report[view].items() if Action[name.upper()].refuses) for view in ("outcomes", "would")
    }
    done = f"{number(refused['would'])} exchanges throttled, asked to verify or denied; enforced: {number(refused['outcomes'])}"
    tiles = [
        _tile("exchanges", number(total), f"of {number(len(report['accounts']))} accounts"),
        _tile("would be refused", percent(refused["would"] / total if total else None), done),
    ]
    whole = next((rule for rule in report["evaluation"]["rules"] if rule["id"] == ANY), None)
    if whole is None:
        return [*tiles, _tile("labels", "none", "with --labels the page tells right finds from wrong ones")]
    found, acts = whole["matched"], whole["would_act_on"]
    benign, wrong = report["benign"], acts["wrong"]["accounts"]
    bound = "" if wrong["upper_95"] is None else f"; at most {percent(wrong['upper_95'])} of them, with 95 % certainty"
    return [
        *tiles,
        _tile("of harvesting accounts noticed", percent(found["recall"]["accounts"]),
              f"{percent(found['recall']['exchanges'])} of their exchanges matched a rule", "harvest"),
        _tile("of harvesting exchanges refused", percent(acts["recall"]["exchanges"]),
              "as if every shadow rule were enforced", "harvest"),
        _tile("of honest exchanges refused", percent(benign["share"] if benign["exchanges"] else None),
              f"{number(benign['would_refuse'])} of {number(benign['exchanges'])}", "honest"),
        _tile("honest accounts refused anything", number(wrong["found"]), f"of {number(wrong['of'])}{bound}", "honest"),
    ]  # fmt: skip


def _tile(name: str, value: str, note: str, kind: str = "") -> Row:
    return {"name": name, "value": value, "note": note, "kind": kind}


def _labels(report: Mapping[str, Any]) -> list[Row]:
    colours = _colours(report)
    whole: Mapping[str, Any] = next((rule["labels"] for rule in report["evaluation"]["rules"] if rule["id"] == ANY), {})
    return [
        {**row, "name": name, "colour": colours.get(name, OTHER), "share": row["matched"] / max(1, row["accounts"]),
         "half": whole[name]["seconds_to_detection"]["median"]}
        for name, row in sorted(report["labels"].items(), key=lambda pair: (_side(report, pair[0]) != "harvest", pair[0]))
    ]  # fmt: skip


def _side(report: Mapping[str, Any], label: str) -> str:
    return str(report["pictures"]["sides"].get(label, "unlabelled"))


def _colours(report: Mapping[str, Any]) -> dict[str, str]:
    sides = report["pictures"]["sides"]
    return label_colours(sides, sides)


def _rules(report: Mapping[str, Any], policy: Policy) -> list[Row]:
    """Rules that matched, those that find most accounts first."""
    known = {rule["id"]: rule["matched"] for rule in report["evaluation"]["rules"]}
    matched = sorted((rule for rule in report["rules"] if rule["match"]), key=lambda rule: (-rule["accounts"], rule["id"]))
    most = max((rule["match"] for rule in matched), default=1)
    rows = []
    for rule in matched:
        declared, found = policy.rule(rule["id"]), known.get(rule["id"])
        strongest = (
            max((effect.action for effect in declared.response.effects), default=Action.ALLOW) if declared else Action.ALLOW
        )
        row = {
            **rule,
            "title": declared.title if declared else "",
            "weight": rule["match"] / most,
            "colour": ACTIONS[str(strongest)],
        }
        if found is not None:
            row |= {"precision": found["precision"]["accounts"], "recall": found["recall"]["accounts"]}
            row["wrong"] = found["wrong"]["accounts"]
        rows.append(row)
    return rows


def _units(report: Mapping[str, Any]) -> list[Row]:
    """Bars of one logarithmic scale: exchanges, conversations, tasks of each label."""
    units, colours = report["pictures"]["units"], _colours(report)
    most = math.log10(1 + max((row["exchanges"] for row in units), default=1))
    names = {"exchanges": "exchanges", "roots": "conversations", "tasks": "tasks"}
    rows = []
    for row in units:
        about = {key: "" if row["exact"] or key == "exchanges" else "about " for key in names}
        known = [(key, name, row[key]) for key, name in names.items() if row[key] is not None]
        bars = [(name, about[key] + number(count), math.log10(1 + count) / most) for key, name, count in known]
        rows.append({"label": row["label"], "colour": colours.get(row["label"], OTHER), "bars": bars})
    return rows


def _clusters(report: Mapping[str, Any]) -> list[Row]:
    rows = []
    for row in report["pictures"]["clusters"]["largest"]:
        counts = dict.fromkeys(SIDES, 0)
        for label, count in row["labels"].items():
            counts[_side(report, label)] += count
        rows.append({**row, "parts": [(SIDES[side], count / row["accounts"]) for side, count in counts.items()]})
    return rows


def _differing(report: Mapping[str, Any]) -> list[Row]:
    """The accounts on which two policies differ: those that only one refuses first."""
    found: Iterable[Row] = report.get("difference", {}).get("accounts", ())
    return sorted(found, key=lambda row: (not any(row["only"].values()), -sum(row["exchanges"].values()), row["id"]))[
        :MOST_ACCOUNTS
    ]


def _strength(row: Row) -> tuple[int, int, int, str]:
    return -Action[row["would"].upper()], -len(row["rules"]), -row["exchanges"], row["id"]
