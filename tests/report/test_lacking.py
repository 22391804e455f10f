"""What a source cannot feed is counted by cause and signal, exactly, whatever the source is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.console import Console

from gateway.cli import main
from gateway.report.printing import show
from gateway.values import SECOND, Failed
from tests.judging import START, policy
from tests.report.traffic import counted, exchange

SAMPLES = Path(__file__).parents[2] / "examples/replay"
RULE = "  - {{id: r.{0}, title: t, family: volume, owner: tests, {1}, then: {{action: tag, tag: x}}, mode: enforce}}"
WHEN = {
    "model": "when: {request.model: {in: [gpt-4o, gpt-4o-mini]}}",
    "tasks": "measures: {n: {distinct: prompt.slots, per: [account.id], window: 1h}}, when: {n: {lt: 1}}",
    "some": "measures: {n: {count: true, where: {prompt.template: {ne: x}}, per: [account.id], window: 1h}}, "
    "when: {n: {lt: 1}}",
    "said": "measures: {n: {sum: response.output_tokens, per: [account.id], window: 1h}}, when: {n: {lt: 1}}",
    "share": "measures: {n: {count: true, per: [account.id], window: 1h}, "
    "d: {distinct: prompt.slots, per: [account.id], window: 1h}, r: {ratio: [d, n]}}, when: {r: {lte: 0.05}}",
    "routed": "when: {request.route: chat.completions}",
}
PACK = "pack: r\nversion: 1\nlanguage: 1\nrules:\n" + "\n".join(RULE.format(*one) for one in WHEN.items()) + "\n"


def report(tmp_path: Path, *records: Path, engine: str = "auto") -> Any:
    (tmp_path / "p.yaml").write_text(PACK)
    asked = ["dry-run", *map(str, records), "--policy", str(tmp_path / "p.yaml"), "--format", "json", "--engine", engine]
    told = CliRunner().invoke(main, asked)
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def lacked(found: Any) -> dict[str, tuple[int, dict[str, dict[str, int]]]]:
    """By rule: on how many exchanges it was evaluated, and the signals it lacked by cause."""
    for rule in found["rules"]:
        assert rule["evaluable"] + sum(one["exchanges"] for one in rule["unevaluable"].values()) == found["records"]["judged"]
    return {
        rule["id"].removeprefix("r."): (
            rule["evaluable"],
            {cause: one["signals"] for cause, one in rule["unevaluable"].items()},
        )
        for rule in found["rules"]
    }


LOG = {
    "model": "request.model", "tasks": "prompt.slots", "some": "prompt.template", "said": "response.output_tokens",
    "share": "prompt.slots",
}  # fmt: skip
SPENT = {name: signal for name, signal in LOG.items() if signal.startswith("prompt.")}
KEYLESS = {"envoy.jsonl": 3, "nginx.jsonl": 2}  # lines that tell of no account
CASES: dict[str, dict[str, str]] = {
    "nginx.jsonl": LOG, "envoy.jsonl": LOG, "litellm.csv": SPENT, "litellm.jsonl": {}, "requests.jsonl": {},
    "genai.json": SPENT | {"routed": "request.route"},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_evaluated_or_what_the_source_lacks_is_named(name: str, tmp_path: Path) -> None:
    """What is counted by something that no record holds is unknown, not nought: `lt: 1` matches nobody because of it."""
    found, lacks = report(tmp_path, SAMPLES / name), CASES[name]
    judged = found["records"]["judged"]
    assert judged == found["records"]["read"] > 0
    keyless = {"account.id": KEYLESS[name]} if name in KEYLESS else {}
    for rule, (evaluable, causes) in lacked(found).items():
        wanted = ({lacks[rule]: judged} if rule in lacks else {}) | (keyless if "per" in WHEN[rule] else {})
        assert (evaluable, causes) == ((0, {"not_recorded": wanted}) if wanted else (judged, {})), rule
    assert found["records"]["evaluable"] == (0 if lacks else judged)
    assert found["records"]["unevaluable"] == ({"not_recorded": judged} if lacks else {})


def test_audit_records_hold_what_was_looked_at(tmp_path: Path) -> None:
    """Under another policy than the one of its day a record may lack what nobody asked for then."""
    (tmp_path / "then.yaml").write_text(
        "pack: r\nversion: 1\nlanguage: 1\nrules:\n" + RULE.format("model", WHEN["model"]) + "\n"
    )
    kept = tmp_path / "kept.jsonl"
    asked = [SAMPLES / "requests.jsonl", "--policy", tmp_path / "then.yaml", "--decisions", kept, "--format", "json"]
    told = CliRunner().invoke(main, ["dry-run", *map(str, asked)])
    assert told.exit_code == 0, told.output
    found = lacked(report(tmp_path, kept))
    assert found["model"] == found["said"] == (123, {})
    assert found["tasks"] == found["share"] == (0, {"not_recorded": {"prompt.slots": 123}})
    assert lacked(report(tmp_path, SAMPLES / "requests.jsonl"))["tasks"] == (123, {})


@pytest.mark.parametrize("engine", ["events", "columns"])
def test_compact_records_lack_the_columns_that_are_not_there(engine: str, tmp_path: Path) -> None:
    """Of two files that are read together, each lacks its own; both engines say the same, byte for byte."""
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    made = CliRunner().invoke(main, ["compact", str(SAMPLES / "requests.jsonl"), "--out", str(whole)])
    assert made.exit_code == 0, made.output
    table = pq.read_table(whole)
    pq.write_table(table.drop_columns(["prompt.slots"]).slice(0, 50), cut)
    found = report(tmp_path, whole, cut, engine=engine)
    assert (found["records"]["judged"], found["records"]["evaluable"]) == (173, 123)
    told = lacked(found)
    assert told["tasks"] == told["share"] == (123, {"not_recorded": {"prompt.slots": 50}})
    assert told["some"] == told["routed"] == (173, {})
    assert found == report(tmp_path, whole, cut, engine="events")


def test_missing_values_and_errors_are_causes_of_their_own() -> None:
    rows = [
        exchange(0, {"account.id": "a", "request.model": "m", "prompt.slots": "s"}, START),
        exchange(1, {"account.id": "a", "prompt.slots": "s"}, START + SECOND),
        exchange(2, {"account.id": "a", "request.model": "m"}, START + 2 * SECOND),
    ]
    rows[2].facts.recorded["request.model"] = Failed("broke")  # type: ignore[index]
    found = counted(rows, policy(PACK)).as_dict(3, 0)
    (model,) = [rule for rule in found["rules"] if rule["id"] == "r.model"]
    assert model["unevaluable"] == {
        "error": {"exchanges": 1, "signals": {}}, "missing": {"exchanges": 1, "signals": {"request.model": 1}},
    }  # fmt: skip
    out = io.StringIO()
    show(found, Console(file=out, width=300))
    assert "error (1); missing (1): request.model" in out.getvalue()


def test_records_that_lack_what_a_rule_reads_promote_nothing(tmp_path: Path) -> None:
    """A hundred thousand lines of an access log show nothing of a rule on prompts."""
    gate = "mode: shadow, gate: {max_upper_95: 1.0, min_benign_accounts: 1, min_days: 1}"
    (tmp_path / "p.yaml").write_text(PACK.replace("mode: enforce", gate))
    line = json.loads((SAMPLES / "nginx.jsonl").read_text().splitlines()[0]) | {"class": "chat"}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "fields.yaml").write_text("nginx: {label: class}\n")
    asked = [tmp_path / "log.jsonl", "--policy", tmp_path / "p.yaml", "--fields", tmp_path / "fields.yaml"]
    tasks, routed = (CliRunner().invoke(main, ["promote", rule, *map(str, asked)]) for rule in ("r.tasks", "r.routed"))
    assert "still needed: records that hold prompt.slots (exchanges without it: 1)" in tasks.stdout
    assert (tasks.exit_code, "prompt.slots" in routed.stdout) == (1, False)
