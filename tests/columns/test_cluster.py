"""A Dask cluster of two worker processes reads the measures, and the report and the audit records are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.columns.cluster import Cluster, Readings, shared
from gateway.columns.dry_run import dry_run
from gateway.errors import ClusterError
from gateway.language.measures import Measure
from tests.columns.test_command import SENT, run
from tests.columns.test_decisions import written
from tests.columns.test_resume import SIZE, asked

SETTINGS = {"identity": {"hash_key": b"a key of the tests' own"}}


def test_two_worker_processes_give_the_same_bytes(tmp_path: Path) -> None:
    file = str(written(SENT, tmp_path / "x.parquet"))
    alone = dry_run([file], asked(), tmp_path / "alone", size=SIZE)
    with Cluster("local:2") as cluster:

        def measured(measures: Sequence[Measure], size: int) -> Iterator[Readings]:
            assert all(shared(measures, 1))
            return cluster.readings([file], SETTINGS, measures, size)

        together = dry_run([file], asked(), tmp_path / "together", size=SIZE, measured=measured)
    assert (tmp_path / "together").read_bytes() == (tmp_path / "alone").read_bytes()
    assert json.dumps(together.counts.as_dict(together.done, 0)) == json.dumps(alone.counts.as_dict(alone.done, 0))


def test_measures_under_equal_keys_stay_together() -> None:
    measures = [rule_measure for rule in asked().policy.rules for rule_measure in rule.measures.values()]
    lots = shared([one for one in measures if isinstance(one, Measure)], 2)
    assert sorted(len({one.per for one in lot}) for lot in lots) == [0, 1]


def test_nobody_there_is_said() -> None:
    with pytest.raises(ClusterError, match="cannot be reached"), Cluster("local:none"):
        pass


def test_a_cluster_keeps_no_checkpoint(tmp_path: Path) -> None:
    told = run(tmp_path / "x.parquet", "--resume", tmp_path / "c", "--cluster", "local:2")
    assert told.exit_code == 2
    assert "keeps no checkpoint" in told.stderr
