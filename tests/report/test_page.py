"""The page in a real browser: drawn, quiet, narrow enough for a phone, fit for paper, and unharmed by hostile names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from selenium import webdriver

from gateway.cli import main
from gateway.language.policy import Policy
from gateway.report.page import page, percent, wait
from tests.browser import browser, look, printed, requests
from tests.captures import captures
from tests.report.traffic import HOUR, counted, pack, sent

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">\u202e{{ 7*7 }}&amp;"
PROMPT = "the secret words of a prompt"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return pack(threshold=3, mode="enforce")


@pytest.fixture(scope="module")
def report(policy: Policy) -> dict[str, Any]:
    """Two days of labelled traffic, with two policies and names that nobody should trust."""
    rows = [
        *sent("h1", 60, "distill", every=HOUR), *sent("h2", 20, f"distill {HOSTILE}", every=HOUR // 4),
        *sent("b1", 2, "bench"), *sent("p1", 40, "product", model="other", every=HOUR), *sent(HOSTILE, 30, HOSTILE, every=HOUR),
    ]  # fmt: skip
    for place, one in enumerate(rows):
        told = {"prompt.template": f"t-{one.label}", "prompt.slots": f"s-{place % 25}", "prompt.root": f"s-{place % 25}"}
        one.facts.recorded.update(told)  # type: ignore[union-attr]
    rows.sort(key=lambda one: one.facts.at)
    found: dict[str, Any] = counted(rows, policy, against=pack(threshold=9), pictured=True).as_dict(len(rows), 0)
    return found


@pytest.fixture(scope="module")
def file(report: dict[str, Any], policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("page") / "report.html"
    found.write_text(page(report, policy))
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.mark.parametrize(("width", "dark"), [(1_200, False), (390, False), (390, True)])
def test_it_is_drawn_without_a_complaint_or_a_request(chromium: webdriver.Chrome, file: Path, width: int, dark: bool) -> None:
    requests(chromium), chromium.get_log("browser")
    look(chromium, file, width, dark)
    assert chromium.get_log("browser") == []
    own = {"chrome"}  # of the browser: its empty first page
    assert {url.split(":")[0] for url in requests(chromium)} - own <= {"file", "data", "blob"}
    wide = chromium.execute_script(
        "return [document.documentElement.scrollWidth, document.body.scrollWidth, window.innerWidth]"
    )
    assert max(wide) == wide[2] <= width
    marks = "c.querySelectorAll('.bars path, .js-line, .points path').length"
    drawn = chromium.execute_script(f"return [...document.querySelectorAll('.chart')].map(c => {marks})")
    assert len(drawn) >= 6
    assert min(drawn) > 0
    past = """return [...document.querySelectorAll('.chart')].filter(c => {
        const svg = c.querySelector('.main-svg').getBoundingClientRect(), card = c.parentElement.getBoundingClientRect();
        return svg.left < card.left || svg.right > card.right || svg.bottom > card.bottom }).map(c => c.id)"""
    assert chromium.execute_script(past) == []
    ink = chromium.execute_script("return getComputedStyle(document.querySelector('.chart text')).fill")
    assert (ink == "rgb(154, 167, 180)") is dark


def test_names_of_others_are_texts_and_nothing_else(chromium: webdriver.Chrome, file: Path) -> None:
    look(chromium, file, 1_200)
    assert chromium.title == "Dry run: What this policy would do"
    assert chromium.execute_script("return document.querySelectorAll('main img, main script, main a').length") == 0
    cells = chromium.execute_script("return [...document.querySelectorAll('#accounts td:first-child')].map(c => c.textContent)")
    assert "</script><img src=x onerror=\"document.title='owned'\">\\u202e{{ 7*7 }}&amp;" in cells
    legends = chromium.execute_script("return [...document.querySelectorAll('.legend span')].map(c => c.textContent)")
    assert any("onerror" in one for one in legends)


def test_it_prints(chromium: webdriver.Chrome, file: Path) -> None:
    look(chromium, file, 1_200)
    paper = printed(chromium)
    assert paper.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= 3


def test_headline_numbers_are_those_of_the_report(chromium: webdriver.Chrome, file: Path, report: dict[str, Any]) -> None:
    look(chromium, file, 1_200)
    told = "[t.querySelector('span').textContent, t.querySelector('b').textContent]"
    tiles = dict(chromium.execute_script(f"return [...document.querySelectorAll('.tile')].map(t => {told})"))
    refused = report["would"]["deny"]
    assert refused > 0
    assert tiles["exchanges"] == str(report["records"]["judged"])
    assert tiles["would be refused"] == percent(refused / report["records"]["judged"])
    assert tiles["of honest exchanges refused"] == percent(report["benign"]["share"])


def test_of_captures_no_prompt_and_no_key_is_in_it(tmp_path: Path) -> None:
    entry = {
        "ts": 1_793_500_000, "method": "POST", "path": "/v1/chat/completions",
        "headers": [["Authorization", "Bearer sk-a-key-of-somebody"]],
        "body": {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}, "label": "chat",
    }  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(entry | {"ts": entry["ts"] + n}) + "\n" for n in range(4)))  # type: ignore[operator]
    out = tmp_path / "out.html"
    told = CliRunner().invoke(main, ["dry-run", str(tmp_path / "r.jsonl"), "--format", "html", "--out", str(out)])
    assert told.exit_code == 0, told.output
    text = out.read_text()
    assert "By label" in text
    assert PROMPT not in text
    assert "sk-a-key" not in text


def test_decisions_are_the_same_whether_pictures_are_gathered_or_not(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in captures()[::8]))
    for form in ("json", "html", "again.html"):
        asked = ["dry-run", tmp_path / "r.jsonl", "--format", form.split(".")[-1], "--out", tmp_path / form]
        told = CliRunner().invoke(main, [str(one) for one in [*asked, "--decisions", tmp_path / f"d.{form}"]])
        assert told.exit_code == 0, told.output
    assert (tmp_path / "d.json").read_bytes() == (tmp_path / "d.html").read_bytes()
    assert (tmp_path / "html").read_bytes() == (tmp_path / "again.html").read_bytes()


def test_a_page_of_nothing_is_still_a_page(policy: Policy) -> None:
    text = page(counted([], policy, pictured=True).as_dict(0, 0), policy)
    assert "No exchange was judged." in text
    assert "with --labels the page tells right finds from wrong ones" in text


@pytest.mark.parametrize(("package", "name"), [("jinja2", "jinja2"), ("plotly", "plotly")])
def test_a_missing_package_is_named_before_the_replay(
    package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.report import page as module

    module._packed.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    told = CliRunner().invoke(main, ["dry-run", str(tmp_path / "absent.jsonl"), "--format", "html"])
    assert (told.exit_code, told.stderr) == (2, f"sluice: --format html needs the {name} package; install sluicegate[report]\n")


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0\u202f%"), (1, "100\u202f%"), (0.5, "50.0\u202f%"), (0.00012, "0.012\u202f%"), (None, "–")]
)
def test_shares_for_people(share: float | None, said: str) -> None:
    assert percent(share) == said


def test_times_for_people() -> None:
    assert [wait(one) for one in (None, 5, 90, 7_200, 200_000)] == ["–", "5 s", "1.5 min", "2.0 h", "2.3 d"]
