"""A rule's mode changed in the file of its pack: that one word, and not a byte besides."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from gateway.decision import Mode
from gateway.errors import Place, PolicyError, Problem
from gateway.language.policy import Rule
from gateway.strict.document import MAX_BYTES, Node, contents, decoded, parse

_QUOTES: Final = ("", "'", '"')


def with_mode(text: str, rule: Rule, mode: Mode) -> str:
    """The text of a pack in which this rule has another mode. Raises PolicyError where the word is not where it was read."""
    path = rule.place.path
    tree = parse(text, path)
    entry = _entry(tree, rule.id)
    if entry is None or not isinstance(entry.value, dict) or "mode" not in entry.value:
        raise _refused(rule.place, f"{rule.id} does not stand here any more")
    node = entry.value["mode"]
    start = _offset(text, node.place)
    quote = next((quote for quote in _QUOTES if text.startswith(f"{quote}{node.value}{quote}", start)), None)
    if quote is None:
        raise _refused(node.place, f"the mode of {rule.id} is written in a way that cannot be changed in place")
    end = start + len(f"{quote}{node.value}{quote}")
    changed = f"{text[:start]}{quote}{mode}{quote}{text[end:]}"
    entry.value["mode"] = Node(str(mode), path)
    if parse(changed, path).plain() != tree.plain():
        raise _refused(node.place, f"the mode of {rule.id} cannot be changed in place")
    return changed


def set_mode(rule: Rule, mode: Mode) -> None:
    """Change the mode of a rule in its pack, in one step. Raises PolicyError, also where the file cannot be written."""
    path = Path(rule.place.path)
    changed = with_mode(decoded(contents(path, MAX_BYTES), str(path)), rule, mode)
    try:
        target = path.resolve(strict=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(changed.encode())
            Path(name).chmod(target.stat().st_mode & 0o7777)
            Path(name).replace(target)
        except BaseException:  # whatever broke, no half-written file stays beside the pack
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PolicyError([Problem(Place(str(path)), f"cannot be written: {error.strerror}")]) from None


def _entry(tree: Node, rule_id: str) -> Node | None:
    rules = tree.value.get("rules") if isinstance(tree.value, dict) else None
    entries = rules.value if rules is not None and isinstance(rules.value, list) else []
    return next((entry for entry in entries if isinstance(entry.value, dict) and _named(entry) == rule_id), None)


def _named(entry: Node) -> object:
    assert isinstance(entry.value, dict)
    return entry.value["id"].value if "id" in entry.value else None


def _offset(text: str, place: Place) -> int:
    """The place in a text of a line and column. Lines end as for the reader; what else would end one, YAML does not hold."""
    return sum(map(len, text.splitlines(keepends=True)[: place.line - 1])) + place.column - 1


def _refused(place: Place, message: str) -> PolicyError:
    return PolicyError([Problem(place, message, "write `mode: enforce` there by hand")])
