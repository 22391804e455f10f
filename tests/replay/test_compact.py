"""Compact records: the decisions of the records they were made of, in Parquet and in lines; bad files say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from gateway.audit.record import record, stable
from gateway.cli import main
from gateway.decision import Mode
from gateway.errors import Place, RecordError
from gateway.facts import Answer, Facts
from gateway.language.compile import load
from gateway.registry import load as load_registry
from gateway.replay.compact import FACTS, columns_of, exchange_of, row_of
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange
from gateway.replay.parquet import Writer, shape
from gateway.replay.sources import Reader
from gateway.signals import View
from gateway.values import Failed, Missing
from gateway.web.intake import Intake
from tests.captures import sendable

KEY = b"a key of the tests' own"
REGISTRY = load_registry({"identity": {"hash_key": KEY}})
CATALOGUE = REGISTRY.signals
POLICY = load([Path("rules")], CATALOGUE)
RUN = CliRunner()


def reader() -> Reader:
    return Reader(Intake(REGISTRY, KEY), CATALOGUE)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Audit records of the captures."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "captures.jsonl").write_text("".join(json.dumps(one) + "\n" for one in sendable()))
    with (folder / "audit.jsonl").open("w") as out:
        for one in replay(reader().exchanges([str(folder / "captures.jsonl")]), POLICY, CATALOGUE):
            out.write(json.dumps({**record(one.judgement, one.answer), "label": one.exchange.label}) + "\n")
    return folder


def decided(names: list[str]) -> Iterator[dict[str, Any]]:
    """What a replay of files records, without what a compact record does not hold: why a value is missing."""
    for one in replay(reader().exchanges(names), POLICY, CATALOGUE, Mode.ENFORCE):
        entry = stable(record(one.judgement, one.answer))
        del entry["missing"]
        measures = {name: value for name, value in entry.pop("measures").items() if not isinstance(value, dict)}
        assert one.exchange.label
        yield {**entry, "measures": measures, "id": one.exchange.id, "label": one.exchange.label}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_compact_records_give_the_decisions_of_the_audit_records_they_were_made_of(audited: Path, suffix: str) -> None:
    out = audited / f"compact.{suffix}"
    done = RUN.invoke(main, ["compact", str(audited / "audit.jsonl"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    theirs, ours = (list(decided([str(file)])) for file in (audited / "audit.jsonl", out))
    assert len(ours) == len(theirs) > 400
    assert ours == theirs
    assert any(one["rules"] for one in ours)


def test_a_dry_run_reads_them_by_their_first_bytes(audited: Path) -> None:
    odd = audited / "named-otherwise"
    assert RUN.invoke(main, ["compact", str(audited / "audit.jsonl"), "--out", str(odd), "--format", "parquet"]).exit_code == 0
    told = [RUN.invoke(main, ["dry-run", str(file), "--format", "json"]).stdout for file in (odd, audited / "audit.jsonl")]
    assert json.loads(told[0])["rules"] == json.loads(told[1])["rules"]


def test_a_capture_becomes_what_its_signals_are(audited: Path) -> None:
    for exchange in reader().exchanges([str(audited / "captures.jsonl")]):
        row = row_of(exchange, CATALOGUE)
        made = exchange_of({"compact": 1, **json.loads(json.dumps(row))}, exchange.place, CATALOGUE)
        view, again = View(exchange.facts, CATALOGUE), View(made.facts, CATALOGUE)
        for name in columns_of(CATALOGUE):
            if CATALOGUE[name].recalls is None and not CATALOGUE[name].settled:
                first, second = view.get(name), again.get(name)
                assert second == first or (isinstance(first, Missing) and isinstance(second, Missing)), name


def test_null_is_missing_and_no_column_is_not_recorded(tmp_path: Path) -> None:
    schema = shape(["client.country", "prompt.structure", "account.age"], CATALOGUE, facts=["status"])
    failed = json.dumps({"client.country": "OSError: gone"})
    with Writer(tmp_path / "x.parquet", pa.schema([*schema, FAILED], metadata=schema.metadata)) as file:
        file.rows([
            {"at": 5, "id": "0" * 32, "account.age": 7, "status": 200, "prompt.structure": ["rubric"]},
            {"at": 6, "id": "1" * 32, "client.country": None, "failed": failed},
        ])  # fmt: skip
    first, second = reader().exchanges([str(tmp_path / "x.parquet")])
    views = [View.of(one.facts, CATALOGUE) for one in (first, second)]
    assert [view.get("account.age") for view in views] == [7, Missing("none in the record")]
    assert views[0].get("prompt.structure") == frozenset({"rubric"})
    assert views[0].get("client.asn") == Missing("not recorded")
    assert views[1].get("client.country") == Failed("OSError: gone")
    assert (first.answer.status, second.id, second.facts.at) == (200, "1" * 32, 6)


FAILED = pa.field("failed", pa.dictionary(pa.int32(), pa.string()))


def test_ids_belong_to_rows_however_they_are_split(tmp_path: Path) -> None:
    rows = [{"at": at, "id": f"{at:032x}", "account.id": "a"} for at in range(5)]
    for name, held in (("a", rows), ("b", rows[:2]), ("c", rows[2:])):
        with Writer(tmp_path / name, shape(["account.id"], CATALOGUE)) as file:
            assert file.rows(held, size=2) == len(held)
    whole, parts = (list(reader().exchanges([str(tmp_path / name) for name in names])) for names in ("a", "bc"))
    assert [one.id for one in whole] == [one.id for one in parts] == [row["id"] for row in rows]


def test_an_id_of_another_make_is_hashed() -> None:
    exchange = Exchange(Place("x"), "sg-1", Facts(1, recorded={}), Answer())
    assert len(row_of(exchange, CATALOGUE)["id"]) == 32
    assert row_of(exchange, CATALOGUE)["id"] == row_of(exchange, CATALOGUE)["id"]


def test_every_signal_but_the_declared_may_be_a_column() -> None:
    assert not columns_of(CATALOGUE).keys() & FACTS.keys()
    assert {"account.id", "prompt.echo", "response.issued"} <= columns_of(CATALOGUE).keys()
    assert not {"workload.kind", "request.hour", "response.status"} & columns_of(CATALOGUE).keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compact": 2}, "x:1:1: compact records of version 2 are not known, only 1"),
        ({"id": "sg-1"}, "x:1:1: needs `at` (µs since 1970) and `id` (32 hexadecimal digits)"),
        ({"account.age": "3d"}, "x:1:1: 'account.age' is str, but is a duration (whole µs)"),
        ({"prompt.structure": "rubric"}, "x:1:1: 'prompt.structure' is str, but is a set of string"),
        ({"lable": "x"}, "x:1:1: unknown column 'lable'; did you mean 'label'?"),
        ({"cause": "whim"}, "x:1:1: is not a whole compact record: 'whim' is not a valid Cause"),
        ({"at": None}, "x:1:1: needs `at`"),
    ],
)
def test_a_bad_line_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    line = {"compact": 1, "at": 1, "id": "0" * 32, **change}
    with pytest.raises(RecordError) as caught:
        reader().exchange(json.dumps(line).encode(), Place("x", 1, 1))
    assert str(caught.value).startswith(message)


def test_a_bad_file_says_what_is_wrong(tmp_path: Path) -> None:
    def told(table: pa.Table) -> str:
        pq.write_table(table, tmp_path / "x.parquet")
        with pytest.raises(RecordError) as caught:
            list(reader().exchanges([str(tmp_path / "x.parquet")]))
        return str(caught.value).removeprefix(str(tmp_path))

    schema = shape(["account.age"], CATALOGUE, facts=[])
    rows = pa.Table.from_pylist([{"at": 2, "id": b"0" * 16}, {"at": 1, "id": b"1" * 16}], schema)
    assert "/x.parquet:2:1: is earlier than the row before it" in told(rows)
    assert "holds no compact records" in told(rows.replace_schema_metadata(None))
    later = {b"sluicegate": schema.metadata[b"sluicegate"].replace(b'"version": 1', b'"version": 9')}
    assert "version 9 are not known, only 1" in told(rows.replace_schema_metadata(later))
    text = rows.set_column(2, "account.age", pa.array(["a", "b"]))
    assert "the column 'account.age' is string, but must be int64" in told(text.replace_schema_metadata(schema.metadata))
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-9])
    with pytest.raises(RecordError, match="cannot be read as Parquet"):
        list(reader().exchanges([str(tmp_path / "x.parquet")]))


def test_the_command_says_how_to_ask_for_it(tmp_path: Path) -> None:
    assert "Parquet needs --out FILE" in RUN.invoke(main, ["compact", "x", "--format", "parquet"]).output
    gone = RUN.invoke(main, ["compact", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "y.jsonl")])
    assert (gone.exit_code, "cannot be read" in gone.output) == (3, True)
