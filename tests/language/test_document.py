"""YAML 1.2 as this project reads it: what is text, what is a number, where everything stands, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import LoadError, Place
from gateway.strict.document import MAX_BYTES, MAX_DEPTH, Node, parse, read

SCALARS: list[tuple[str, object]] = [
    ("NO", "NO"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("yes", "yes"),
    ("y", "y"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("tRUE", "tRUE"),
    ("false", False),
    ("False", False),
    ("FALSE", False),
    ("null", None),
    ("Null", None),
    ("NULL", None),
    ("~", None),
    ("", None),
    ("nULL", "nULL"),
    ("0", 0),
    ("7", 7),
    ("-7", -7),
    ("+7", 7),
    ("0123", "0123"),
    ("-01", "-01"),
    ("00", "00"),
    ("0x1F", "0x1F"),
    ("0o17", "0o17"),
    ("12:30", "12:30"),
    ("12:30:45", "12:30:45"),
    ("1_000", "1_000"),
    ("2026-11-01", "2026-11-01"),
    ("1.10", 1.1),
    ("1.", 1.0),
    (".5", 0.5),
    ("-0.25", -0.25),
    ("1e3", 1000.0),
    ("1.5E-2", 0.015),
    ("00.5", "00.5"),
    (".inf", ".inf"),
    ("-.INF", "-.INF"),
    (".nan", ".nan"),
    ("1e999", "1e999"),
    (".", "."),
    ("1.2.3", "1.2.3"),
    ("1e", "1e"),
    ("9" * 39, int("9" * 39)),
    ("9" * 40, "9" * 40),
    ("30d", "30d"),
    ("10.0.0.0/8", "10.0.0.0/8"),
    ("=", "="),
    ("'NO'", "NO"),
    ("'1'", "1"),
    ('"true"', "true"),
    ('"null"', "null"),
    ("''", ""),
    ("'it''s'", "it's"),
    ('"\\u00e5\\n"', "å\n"),
    ("# only a comment", None),
    ("text # comment", "text"),
    ("text#no-comment", "text#no-comment"),
]


@pytest.mark.parametrize(("written", "value"), SCALARS)
def test_a_scalar_is_what_yaml_1_2_says(written: str, value: object) -> None:
    node = parse(f"key: {written}\n", "file")
    assert node.plain() == {"key": value}
    assert isinstance(node.value, dict)
    assert type(node.value["key"].value) is type(value)


def test_text_over_several_lines_stays_text() -> None:
    assert parse("a: |\n  1\n  2\nb: >\n  true\nc:\n  true\n  so", "f").plain() == {
        "a": "1\n2\n",
        "b": "true\n",
        "c": "true so",
    }


def test_keys_are_read_by_the_same_rules() -> None:
    assert parse("NO: 1\non: 2\n'1': 3\n12:30: 4\n", "file").plain() == {"NO": 1, "on": 2, "1": 3, "12:30": 4}
    for key, kind in (("1", "a number"), ("true", "true or false"), ("~", "nothing"), ("1.5", "a number"), ("[a]", "a list")):
        with pytest.raises(LoadError, match=f"a key must be text, not {kind}"):
            parse(f"? {key}\n: x\n", "file")


def test_every_value_knows_its_place_and_its_key() -> None:
    node = parse("a: 1\nb:\n  - x\n  - {c: å, d: 2}\n", "file")
    assert isinstance(node.value, dict)
    items = node.value["b"].value
    assert isinstance(items, list)
    inner = items[1].value
    assert isinstance(inner, dict)
    assert (node.place, node.key, node.named) == (Place("file", 1, 1), None, Place("file", 1, 1))
    assert (node.value["b"].place, node.value["b"].key) == (Place("file", 3, 3), Place("file", 2, 1))
    assert (inner["d"].place, inner["d"].named) == (Place("file", 4, 15), Place("file", 4, 12))
    assert node.at("a") == Place("file", 1, 4)
    assert node.at("absent") == node.place


def test_a_byte_order_mark_moves_nothing(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.yaml", tmp_path / "marked.yaml"
    plain.write_bytes("a: 1\nb: [å]\n".encode())
    marked.write_bytes("\ufeffa: 1\nb: [å]\n".encode())
    assert read(plain, "f") == read(marked, "f")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_change_nothing(end: str, tmp_path: Path) -> None:
    file = tmp_path / "pack.yaml"
    file.write_bytes(end.join(["a: 1", "b: |", "  x", "  y", "c: [2]", ""]).encode())
    node = read(file, "file")
    assert node.plain() == {"a": 1, "b": "x\ny\n", "c": [2]}
    assert node.at("c") == Place("file", 5, 4)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "---\n...\n"])
def test_an_empty_document_is_nothing(text: str) -> None:
    node = parse(text, "file")
    assert (node.value, node.kind) == (None, "nothing")


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> str:
        return "[" * depth + "]" * depth

    assert parse(nested(MAX_DEPTH + 1), "file").kind == "a list"
    with pytest.raises(LoadError, match=f"file:1:{MAX_DEPTH + 2}: nested deeper than {MAX_DEPTH} levels; write it flatter"):
        parse(nested(MAX_DEPTH + 2), "file")
    with pytest.raises(LoadError, match="nested deeper"):
        parse("[" * 100_000, "file")


def test_size_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    line = b"# " + b"x" * 1_021 + b"\n"
    file.write_bytes(line * (MAX_BYTES // len(line)))
    assert file.stat().st_size == MAX_BYTES
    assert read(file).value is None
    file.write_bytes(line * (MAX_BYTES // len(line)) + b"#")
    with pytest.raises(LoadError, match="is larger than 8 MiB; split it into several files"):
        read(file)


def test_unreadable_files_are_said(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nb: å\n".encode("latin-1"))
    for path, message in (
        (latin, "latin.yaml:2:1: is not UTF-8; save the file as UTF-8"),
        (tmp_path, ": cannot be read: Is a directory"),
        (tmp_path / "absent.yaml", "absent.yaml: cannot be read: No such file or directory"),
    ):
        with pytest.raises(LoadError) as caught:
            read(path)
        assert str(caught.value).endswith(message)


REFUSED = [
    ("a: 1\nb: 2\na: 3\n", "f:3:1: key 'a' stands twice; the first is in line 1"),
    ("x: {a: 1, a: 1}\n", "f:1:11: key 'a' stands twice; the first is in line 1"),
    ("a: &x 1\n", "f:1:4: anchors and aliases are not part of the language; write the value out"),
    ("&x a: 1\n", "f:1:1: anchors and aliases are not part of the language; write the value out"),
    ("a: !!int 1\n", "f:1:4: tag tag:yaml.org,2002:int is not part of the language; remove the tag"),
    ("a: !mine {b: 1}\n", "f:1:4: tag !mine is not part of the language; remove the tag"),
    ("a: 1\n---\nb: 1\n", "f:2:1: a second document; write one document per file"),
    ("<<: {a: 1}\n", "f:1:1: merge keys are not part of the language; write the values out"),
    ("a: 1\nb: x\x00y\n", "f:2:5: is not YAML: a control character stands here; remove it"),
    ("a: \x1b[0m\n", "f:1:4: is not YAML: a control character stands here; remove it"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_the_language_leaves_out_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(LoadError) as caught:
        parse(text, "f")
    assert str(caught.value) == message


def test_a_node_says_what_it_is() -> None:
    kinds = {
        "{a: 1}": "a mapping",
        "{}": "an empty mapping",
        "[1]": "a list",
        "[]": "an empty list",
        "yes": "text",
        "true": "true or false",
        "1": "a number",
        "1.5": "a number",
        "~": "nothing",
    }
    assert {text: parse(text, "f").kind for text in kinds} == kinds
    assert Node([Node(1, "f")], "f").plain() == [1]
