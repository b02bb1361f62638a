"""A stage that generates its own samples: how many targets a step has is known only after its rollouts."""

import json
from pathlib import Path

import pytest

from e2llm_core.training.meter import MEASURED
from e2llm_core.training.metrics import read_metrics
from tests import ranks

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def curve(run: Path, workers: int, *stops: int) -> list[dict]:
    """Train, interrupted after some steps; the rows that are the same on every machine."""
    for stop_after in (*stops, None):
        job = run.with_suffix(".json")
        job.write_text(json.dumps({"run": str(run), "stop_after": stop_after}))
        ended = ranks.run("tests.integration.rollout_worker:main", str(job), workers)
        assert not ended.failure, f"{ended.failure}\n{ended.stderr[-4000:]}"
    return [
        {name: value for name, value in row.items() if name not in MEASURED}
        for row in read_metrics(run / "metrics.jsonl")
        if row["split"] == "train"
    ]


def test_rollouts_are_the_same_after_an_interruption_and_on_more_ranks(tmp_path: Path) -> None:
    alone = curve(tmp_path / "alone", 1)
    assert [row["step"] for row in alone] == list(range(1, 9))
    assert len({row["units"] for row in alone}) > 1
    assert all(row["samples"] == 6 and row["units"] == row["tokens"] for row in alone)
    assert curve(tmp_path / "interrupted", 1, 4) == alone
    two = curve(tmp_path / "two", 2)
    assert curve(tmp_path / "two-interrupted", 2, 5) == two
    assert [row["units"] for row in two] == [row["units"] for row in alone]
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in alone], rel=1e-5)
