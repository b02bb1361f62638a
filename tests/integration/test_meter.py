"""A run on two workers is measured: every number is there, and Kineto says nothing."""

import pytest

from e2llm_core.training.meter import MEASURED
from e2llm_core.training.metrics import read_metrics
from tests import ranks

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_two_workers_are_measured(tmp_path):
    plan = {
        "labels": {"name": "two", "names": ["sad", "happy"]},
        "model": {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate": 64, "corpus_size": 100},
        "train": {"max_steps": 6, "global_batch": 8, "micro_batch": 4, "log_every": 2},
    }
    ended = ranks.train({tmp_path / "run": plan})
    assert "profiler_start" not in ended.stderr
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert [row["step"] for row in rows] == [1, 2, 4, 6]
    for row in rows:
        assert set(MEASURED) - {"mfu", "communication_share"} <= set(row)
        assert row["tokens_per_second"] > row["samples_per_second"] > 0
        assert 0 <= row["loader_wait_share"] < 1
        assert 0.1 < row["memory_gb"] < 10
    assert ["communication_share" in row for row in rows] == [False, False, True, True]
    assert 0 < rows[-1]["communication_share"] < 1
    assert "mfu" not in rows[-1]
