"""A training job on a cluster of two hosts, each with an address and a process table of its own."""

import sys
from pathlib import Path

import pytest

from tests.tiny_jobs import TinyJobs
from tests.two_hosts import join, places_on_two_hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_training_job_runs_on_both(tmp_path: Path) -> None:
    """With one CPU each, two workers that need one are on both."""
    jobs = TinyJobs(tmp_path)
    spec = jobs.write("tiny-llm", resources={"workers": 2})
    (tmp_path / "hosts").mkdir()
    with places_on_two_hosts(tmp_path / "hosts") as (head, node):
        join(head, node)
        done = head.run(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--", str(spec))
        assert done.returncode == 0, done.stdout + done.stderr
        node.cluster("down")
        head.cluster("down")
    run = jobs.run("tiny-llm")
    assert "on 2 workers" in (run / "progress.log").read_text()
    assert (run / "DONE.json").exists()
