"""The dashboard in `examples/grafana.json`: every query asks for metrics that there are, by labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit.exposed import prometheus_name
from gateway.audit.metrics import INSTRUMENTS, Kind
from tests.web.conftest import PACK
from tests.web.conftest import faulty as faulty  # a fixture
from tests.web.faulty import Faulty
from tests.web.running import free_port, gateway

DASHBOARD = json.loads((Path(__file__).parents[1] / "examples/grafana.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SUFFIXES = {Kind.COUNTER: ("_total",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
OF_THE_SCRAPE = {"instance", "job"}
SELECTOR = re.compile(r"([a-z_][a-z0-9_]*)\{([^{}]*)\}")
GROUPED = re.compile(r"\bby \(([^()]*)\)")
CALLS = {"sum", "max", "topk", "rate", "histogram_quantile", "by"}


def known() -> dict[str, set[str]]:
    """Every name a scrape has, with its labels."""
    found = {}
    for row in INSTRUMENTS:
        labels = {label.replace(".", "_") for label in row.labels}
        for suffix in SUFFIXES[row.kind]:
            found[prometheus_name(row) + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def asked(query: str) -> tuple[set[str], set[str]]:
    """The metrics of a query, and the labels by which it tells them apart. Fails where something in it is neither."""
    names = {found[1] for found in SELECTOR.finditer(query)}
    labels = {label for found in SELECTOR.finditer(query) for label in re.findall(r"([a-z_]+)\s*(?:=~|!=|!~|=)", found[2])}
    labels |= {label.strip() for found in GROUPED.finditer(query) for label in found[1].split(",")}
    rest = GROUPED.sub("", SELECTOR.sub("", query)).replace("[$__rate_interval]", "")
    assert set(re.findall(r"[a-z_]+", rest)) <= CALLS, rest
    assert query.count("(") == query.count(")")
    return names, labels


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_there_is(query: str) -> None:
    names, labels = asked(query)
    assert names
    for name in names:
        assert name in known(), name
        assert labels - OF_THE_SCRAPE <= known()[name] | {"le"}, name


def test_counters_are_asked_for_their_rate() -> None:
    for query in QUERIES:
        for name in re.findall(r"[a-z_]+_total|[a-z_]+_(?:bucket|sum|count)(?=\{)", query):
            assert f"rate({name}{{" in query, name


def test_panels_are_whole_and_lie_beside_each_other() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
    assert all(panel["title"] and panel["targets"] for panel in DASHBOARD["panels"])


def test_a_running_gateway_has_them(tmp_path: Path, faulty: Faulty) -> None:
    port = free_port()
    settings = f"upstreams: {{openai: {{url: '{faulty.url}'}}}}\nmetrics: {{listen: '127.0.0.1:{port}'}}\n"
    with gateway(tmp_path, settings, PACK) as running:
        httpx.post(f"{running.url}/v1/chat/completions", json={"model": "m", "messages": []}, trust_env=False)
        scraped = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    there = {sample.name for family in text_string_to_metric_families(scraped) for sample in family.samples}
    said = {line.split()[2] for line in scraped.splitlines() if line.startswith("# TYPE")}
    for name in set().union(*(asked(query)[0] for query in QUERIES)):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in there or family in said or family.removesuffix("_total") in said, name
