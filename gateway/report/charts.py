"""The charts of a page, as plotly figures: what is drawn, in which colour, under which words.

A colour means one thing on the whole page: an action, what a label means (harvesting warm, honest cool, unknown grey), or a
policy. Frames, grids and texts take the colours of the page, by its style sheet, so that dark, light and paper need no second
figure. Names stand in charts as texts that plotly would read for markup, so they are escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

ACTIONS: Final = {
    "allow": "#9aa5b1", "observe": "#7db4d6", "tag": "#3d7fc4", "delay": "#2aa198", "restrict": "#d9a514",
    "throttle": "#e8833a", "verify": "#9b6bd0", "deny": "#d0433e",
}  # fmt: skip
SIDES: Final = {"harvest": "#d0433e", "honest": "#2a8f7b", "unlabelled": "#8a94a0"}
SHADES: Final = {
    "harvest": ("#d0433e", "#e8833a", "#b3367a", "#8c2f2b", "#e3a04f"),
    "honest": ("#2a8f7b", "#3d7fc4", "#6aa84f", "#5b6fc0", "#38a3b8", "#7c9c3a", "#2f6f8f", "#8d7cc9"),
    "unlabelled": ("#8a94a0",),
}
RULES: Final = ("#3d7fc4", "#e8833a", "#2a8f7b", "#9b6bd0", "#d9a514", "#d0433e", "#38a3b8", "#b3367a")
OTHER: Final = "#8a94a0"
MOST_RULES: Final = len(RULES)
MOST_SWEEPS: Final = 12
_LONGEST: Final = 120
_WHOSE: Final = {"harvest": "harvesting accounts", "honest": "honest accounts", "unlabelled": "accounts without a label"}


class Chart(NamedTuple):
    """One chart. figure: plotly's JSON. legend: (name, colour). wide: whether it needs the width of the page."""

    id: str
    title: str
    note: str
    figure: Mapping[str, Any]
    legend: Sequence[tuple[str, str]] = ()
    wide: bool = True


def shown(text: str) -> str:
    """A text that can do nothing to a page: what cannot be printed is spelled out, and it is not longer than it can be read."""
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def label_colours(labels: Iterable[str], sides: Mapping[str, str]) -> dict[str, str]:
    """A colour for each label, by what it means."""
    found: dict[str, str] = {}
    used = dict.fromkeys(SHADES, 0)
    for label in sorted(labels):
        side = sides.get(label, "unlabelled")
        found[label] = SHADES[side][used[side] % len(SHADES[side])]
        used[side] += 1
    return found


def charts(report: Mapping[str, Any]) -> dict[str, list[Chart]]:
    """The charts of a report with `pictures`, by the section they stand in."""
    pictures = report["pictures"]
    colours = label_colours(pictures["sides"], pictures["sides"])
    return {
        "time": [*_over_time(pictures["over_time"], colours), *_found(pictures["found"], colours)],
        "novelty": _novelty(pictures["novelty"], colours),
        "sweeps": [_sweep(place, sweep) for place, sweep in enumerate(_telling(pictures["sweeps"]))],
    }


def _over_time(over_time: Mapping[str, Any], colours: Mapping[str, str]) -> list[Chart]:
    """Stacked bars: exchanges by action; those affected, by rule and by label."""
    times = over_time["times"]
    span = _span(over_time["width_s"])
    actions = [(name, ACTIONS[name], over_time["action"][name]) for name in ACTIONS if name in over_time["action"]]
    ranked = sorted(over_time["rule"].items(), key=lambda pair: (-sum(pair[1]), pair[0]))
    rules = [(name, colour, counts) for (name, counts), colour in zip(ranked, RULES, strict=False)]
    if rest := [counts for _, counts in ranked[MOST_RULES:]]:
        rules.append((f"{len(rest)} other rules", OTHER, [sum(column) for column in zip(*rest, strict=True)]))
    labels = [(name, colours.get(name, OTHER), counts) for name, counts in over_time["label"].items()]
    drawn = (
        ("actions", "Every exchange, by what would be done with it", f"Exchanges per {span}.", actions),
        ("by-rule", "Exchanges tagged or more, by rule", f"Per {span}. An exchange may count for several rules.", rules),
        ("by-label", "Exchanges tagged or more, by label", f"Per {span}.", labels),
    )
    return [
        Chart(f"chart-{name}", title, note, _bars(times, series), [(shown(one), colour) for one, colour, _ in series])
        for name, title, note, series in drawn
        if series
    ]


def _bars(times: Sequence[str], series: Sequence[tuple[str, str, Sequence[int]]]) -> Mapping[str, Any]:
    go = _plotly()
    bars = [
        go.Bar(x=times, y=counts, name=escape(shown(name)), marker={"color": colour, "line": {"width": 0}},
               hovertemplate="%{y:,} %{fullData.name}<extra></extra>")
        for name, colour, counts in series
    ]  # fmt: skip
    return _figure(bars, {"type": "date"}, {"rangemode": "tozero"}, barmode="stack", bargap=0.06, hovermode="x unified")


def _found(found: Mapping[str, Any], colours: Mapping[str, str]) -> list[Chart]:
    """How soon accounts of each label first matched."""
    go, lines = _plotly(), []
    for label, row in found.items():
        hours = [0.0, *(at / 3_600 for at, _ in row["points"])]
        shares = [0.0, *(count / row["of"] for _, count in row["points"])]
        lines.append(go.Scatter(
            x=hours, y=shares, name=escape(shown(label)), mode="lines+markers" if len(hours) < 12 else "lines",
            line={"color": colours.get(label, OTHER), "width": 2.5, "shape": "hv"},
            hovertemplate="%{y:.0%} of %{fullData.name} after %{x:.1f} h<extra></extra>",
        ))  # fmt: skip
    if not lines:
        return []
    figure = _figure(lines, {"title": {"text": "hours since the first exchange"}, "rangemode": "tozero"},
                     {"tickformat": ".0%", "range": [0, 1.03]}, hovermode="closest")  # fmt: skip
    legend = [(shown(label), colours.get(label, OTHER)) for label in found]
    note = "Share of each label's accounts that any rule has matched so far."
    return [Chart("chart-found", "How soon accounts are noticed", note, figure, legend)]


def _novelty(templates: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> list[Chart]:
    """Different fillings against exchanges, one curve a template; the dashed line is «always something new»."""
    if not templates:
        return []
    go, most = _plotly(), max(row["exchanges"] for row in templates)
    lines = [go.Scatter(x=[1, most], y=[1, most], mode="lines", line={"color": OTHER, "dash": "dot", "width": 1.5},
                        name="always something new", hoverinfo="skip")]  # fmt: skip
    for row in templates:
        name = f"{escape(shown(row['label']))}, template {escape(shown(row['template'])[:10])}"
        lines.append(go.Scatter(
            x=[x for x, _ in row["points"]], y=[y for _, y in row["points"]], name=name, mode="lines",
            line={"color": colours.get(row["label"], OTHER), "width": 2.5},
            hovertemplate="%{y:,} different fillings in %{x:,} exchanges<br>%{fullData.name}<extra></extra>",
        ))  # fmt: skip
    figure = _figure(lines, {"type": "log", "title": {"text": "exchanges so far"}, "dtick": 1},
                     {"type": "log", "title": {"text": "different fillings"}, "dtick": 1}, hovermode="closest")  # fmt: skip
    labels = dict.fromkeys(row["label"] for row in templates)
    note = "One curve a template, the most used ones. A harvest follows the dotted line; a fixed set of items levels out."
    legend = [(shown(label), colours.get(label, OTHER)) for label in labels]
    return [Chart("chart-novelty", "Does a template go on asking for something new?", note, figure, legend)]


def _telling(sweeps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The sweeps that say most: those whose curves change, by how many accounts they catch."""

    def weight(sweep: Mapping[str, Any]) -> int:
        return sum(counts[0] - counts[-1] for counts in sweep["accounts"].values() if counts)

    return sorted((one for one in sweeps if weight(one)), key=lambda one: (-weight(one), one["rule"], one["what"]))[
        :MOST_SWEEPS
    ]


def _sweep(place: int, sweep: Mapping[str, Any]) -> Chart:
    """What each threshold catches (harvesting accounts) and costs (honest ones)."""
    go, texts = _plotly(), list(sweep["shown"])
    places, written = list(range(len(texts))), sweep["thresholds"].index(sweep["written"])
    names = {side: f"{name} (at least)" if side in sweep["at_least"] else name for side, name in _WHOSE.items()}
    sides = [side for side in SIDES if any(sweep["accounts"][side])]
    lines = [
        go.Scatter(x=places, y=sweep["accounts"][side], name=names[side], mode="lines+markers", marker={"size": 6},
                   text=texts, line={"color": SIDES[side], "width": 2.5},
                   hovertemplate="%{y:,} %{fullData.name} at %{text}<extra></extra>")
        for side in sides
    ]  # fmt: skip
    dotted = {"color": OTHER, "dash": "dot", "width": 1.5}
    mark = {"type": "line", "x0": written, "x1": written, "yref": "paper", "y0": 0, "y1": 1, "line": dotted}
    ticks = [place for place in places if (place - written) % 2 == 0]
    axis = {
        "tickvals": ticks,
        "ticktext": [texts[place] for place in ticks],
        "range": [-0.4, len(places) - 0.6],
        "tickangle": 0,
    }
    figure = _figure(lines, axis, {"rangemode": "tozero"}, hovermode="closest", shapes=[mark])
    legend = [(names[side], SIDES[side]) for side in sides]
    return Chart(f"chart-sweep-{place}", sweep["rule"], shown(sweep["leaf"]), figure, legend, wide=False)


def _figure(traces: Sequence[Any], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any) -> Mapping[str, Any]:
    go = _plotly()
    axis = {"fixedrange": True, "automargin": True, "zeroline": False, "ticks": "", "showline": False}
    figure = go.Figure(data=list(traces), layout=go.Layout(
        template=go.layout.Template(), paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", showlegend=False,
        margin={"l": 44, "r": 10, "t": 8, "b": 36}, font={"size": 12, "family": "system-ui, sans-serif"}, dragmode=False,
        xaxis={**axis, "showgrid": False, **x}, yaxis={**axis, "separatethousands": True, **y}, **layout,
    ))  # fmt: skip
    found: Mapping[str, Any] = figure.to_plotly_json()
    return found


def _span(seconds: int) -> str:
    """The width of a bar, in words: `hour`, `6 hours`."""
    unit, size = next((unit, size) for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)) if seconds % size == 0)
    return unit if seconds == size else f"{seconds // size} {unit}s"


def _plotly() -> Any:
    """Plotly's figures. They are heavy, and only a page needs them."""
    from plotly import graph_objects

    return graph_objects
