"""Files of labels: three shapes, read strictly, every error with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import LoadError
from gateway.report.labels import Labels, read_labels

GOOD = {
    "l.csv": "account,org,label\na,,distill\n,o,bench\n",
    "l.jsonl": '{"account": "a", "label": "distill"}\n\n{"org": "o", "label": "bench"}\n',
    "l.yaml": "accounts: {a: distill}\norgs:\n  o: bench\n",
    "l.json": '{"accounts": {"a": "distill"}, "orgs": {"o": "bench"}}',
}
BAD = {
    "no-header.csv": ("a,distill\n", "no-header.csv:1:1: the first row must name the columns"),
    "short.csv": ("account,label\na\n", "short.csv:2:1: has 1 cells, not 2"),
    "both.csv": ("account,org,label\na,o,x\n", "both.csv:2:1: a label is of one account or one org; here both are named"),
    "neither.csv": ("account,label\n,x\n", "neither.csv:2:1: a label is of one account or one org; here neither is named"),
    "quote.csv": ('account,label\n"a,x\n', "quote.csv:2:1: is not CSV"),
    "twice.csv": ("account,label\na,x\na,y\n", "twice.csv:3:1: account 'a' is labelled 'y' here and 'x' before"),
    "blank.csv": ("account,label\na, \n", "blank.csv:2:1: the label of 'a' must be a word"),
    "empty.csv": ("account,label\n", "empty.csv: holds no label"),
    "key.jsonl": ('{"acount": "a", "label": "x"}\n', "key.jsonl:1:1: unknown field 'acount'; did you mean 'account'?"),
    "number.jsonl": ('{"account": 7, "label": "x"}\n', "number.jsonl:1:1: account must be text, not 7; put it in quotes"),
    "list.jsonl": ("[]\n", "list.jsonl:1:1: is not a JSON object"),
    "broken.jsonl": ("{\n", "broken.jsonl:1:1: is not JSON"),
    "list.yaml": ("- a\n", "list.yaml:1:1: must be a mapping of accounts to labels, not a list"),
    "number.yaml": ("a: 7\n", "number.yaml:1:1: the label of 'a' must be a word of at most 64 characters, not 7"),
    "repeated.yaml": ("a: x\na: x\n", "repeated.yaml:2:1: key 'a' stands twice"),
    "control.jsonl": ('{"account": "a", "label": "\\u0007"}\n', "control.jsonl:1:1: the label of 'a' must be a word"),
    "labels.txt": ("a x\n", "labels.txt: is no file of labels: it ends in none of .csv, .jsonl, .yaml, .yml, .json"),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_shape_says_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(GOOD[name])
    assert read_labels(tmp_path / name) == Labels({"a": "distill"}, {"o": "bench"})


def test_a_flat_mapping_is_of_accounts(tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text("accounts: distill\nb: bench\n")
    assert read_labels(tmp_path / "l.yaml").accounts == {"accounts": "distill", "b": "bench"}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_place(name: str, tmp_path: Path) -> None:
    written, said = BAD[name]
    (tmp_path / name).write_text(written)
    with pytest.raises(LoadError) as error:
        read_labels(tmp_path / name)
    assert f"{tmp_path}/{said}" in str(error.value)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"account,label\n\xe9,x\n")
    with pytest.raises(LoadError, match=r"l\.csv:2:1: is not UTF-8"):
        read_labels(tmp_path / "l.csv")


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("account,label\n,x\na,\nb,c\n")
    with pytest.raises(LoadError) as error:
        read_labels(tmp_path / "l.csv")
    assert len(error.value.problems) == 2


def test_an_account_comes_before_its_org_and_both_before_the_record() -> None:
    labels = Labels({"a": "one"}, {"o": "two"})
    assert [labels.of("a", "o", "own"), labels.of("b", "o", "own"), labels.of("b", None, "own"), labels.of("b", "p", None)] == [
        "one", "two", "own", None,
    ]  # fmt: skip


def test_harvesting_is_a_label_or_its_first_word() -> None:
    labels = Labels()
    assert [labels.harvests(one) for one in ("distill", "distill-precursor", "distill/ring", "distilled", "bench", None)] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert [labels.benign(one) for one in ("bench", "distill", None)] == [True, False, False]
    assert Labels(harvest=("relay",)).harvests("relay-benign-content")
