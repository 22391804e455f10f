"""Findings as SARIF 2.1.0, the form in which code hosts and editors take them (OASIS, «Static Analysis Results Interchange
Format»)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gateway.errors import Place
from gateway.language.findings import Finding, Severity

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


class Looked(NamedTuple):
    """What a judgement looks for, in a sentence, and how bad it is."""

    meaning: str
    severity: Severity = Severity.WARNING


def sarif(findings: Iterable[Finding], looked: Mapping[str, Looked], version: str, loaded: bool = True) -> dict[str, Any]:
    """One run with its findings.

    looked: every judgement that was made, by name; those that found nothing are listed as well, so that a host can tell «not
    found» from «not looked for». loaded: False where the files could not be loaded and so were not judged.
    """
    results = sorted(findings)
    made = {finding.judgement: Looked(finding.judgement, finding.severity) for finding in results} | dict(looked)
    names = sorted(made)
    rules = [_rule(name, made[name]) for name in names]
    driver = {"name": "sluice", "fullName": "Sluicegate: sluice check", "semanticVersion": version, "rules": rules}
    run = {
        "tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "invocations": [{"executionSuccessful": loaded}],
        "results": [_result(finding, names.index(finding.judgement)) for finding in results],
    }  # fmt: skip
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, looked: Looked) -> dict[str, Any]:
    text = {"text": looked.meaning}
    short = {"text": looked.meaning.split(": ")[0].rstrip(".") + "."}
    level = {"level": str(looked.severity)}
    return {"id": name, "shortDescription": short, "fullDescription": text, "help": text, "defaultConfiguration": level}


def _result(finding: Finding, index: int) -> dict[str, Any]:
    said = finding.message + (f"; {finding.mend}" if finding.mend else "")
    return {
        "ruleId": finding.judgement, "ruleIndex": index, "level": str(finding.severity), "message": {"text": said},
        "locations": [{"physicalLocation": _location(finding.place)}],
    }  # fmt: skip


def _location(place: Place) -> dict[str, Any]:
    path = PurePath(place.path)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    region = {"region": {"startLine": place.line, "startColumn": max(place.column, 1)}} if place.line else {}
    return {"artifactLocation": {"uri": uri}, **region}
