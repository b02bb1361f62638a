"""The GPU benchmark on a CPU at tiny size: every row, and what becomes of rows when something goes wrong."""

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks._gpu import CASES as MEASUREMENTS
from benchmarks._gpu import row
from benchmarks.gpu import CASES, RANK, ROOT, Results, command, measure

ROW = row("case", "seconds", [2.0, 4.0, 1.0], 8.0, "other", "s", "lower")


@pytest.fixture
def results(tmp_path) -> Results:
    found = Results(tmp_path / "gpu.json")
    found.begin("tiny")
    return found


def python(results: Results, code: str) -> list[str]:
    """A case that runs some code, with the results at hand."""
    begin = (
        f"from benchmarks.gpu import Results; from pathlib import Path; results = Results(Path({str(results.path)!r}))"
    )
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{begin}\n{code}"]


def test_a_row_says_how_many_times_better_ours_is():
    assert (ROW.ours, ROW.ratio, ROW.ratio_low, ROW.ratio_high) == (2.0, 4.0, 2.0, 8.0)
    assert row("case", "rate", 3.0, 2.0, "other", "1/s").ratio == 1.5


def test_a_row_keeps_small_numbers():
    assert row("case", "share", 1.2345678e-7, 0.5, "plan", "of peak").ours == 1.23457e-7


def test_a_case_that_ends_badly_is_recorded_and_the_next_goes_on(results):
    codes = {
        "raises": "results.note(begun=True)\nraise ValueError('no such kernel')",
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "good": "import os; results.note(rank=os.environ['RANK'])",
    }
    measure(results, list(codes), lambda case: python(results, codes[case]), 60)
    content = results.read()
    problems = {failed["case"]: failed["problem"] for failed in content["failed"]}
    assert problems == {
        "raises": "exit status 1: ValueError: no such kernel",
        "killed": "exit status -9: nothing was said",
    }
    assert content["details"]["begun"] is True
    assert content["details"]["rank"] == RANK["RANK"]
    assert list(content["details"]["seconds"]) == list(codes)


def test_what_the_budget_does_not_reach_is_named(results):
    results.add(ROW)
    measure(results, ("slow", "late"), lambda case: [sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    content = results.read()
    assert content["skipped"] == ["late"]
    assert [failed["case"] for failed in content["failed"]] == ["slow"]
    assert results.rows() == [ROW]


def test_a_run_killed_while_it_writes_keeps_its_rows(results):
    results.add(ROW)
    results.path.with_name("gpu.json.partial").write_text('{"rows": [')
    assert results.rows() == [ROW]
    results.add(ROW)
    assert results.rows() == [ROW, ROW]


def test_a_measurement_that_raises_is_recorded_and_the_next_goes_on(results, monkeypatch):
    from benchmarks import _gpu

    def broken(job):
        yield ROW
        raise RuntimeError("out of memory")

    monkeypatch.setitem(_gpu.CASES, "kernels", (broken, lambda job: [ROW]))
    _gpu.run(_gpu.Job(None, results), "kernels")
    assert results.rows() == [ROW, ROW]
    assert results.read()["failed"] == [{"case": "kernels: broken", "problem": "RuntimeError: out of memory"}]


def test_every_case_has_measurements():
    assert tuple(MEASUREMENTS) == CASES


def test_all_of_it_runs_at_tiny_size(results, tmp_path):
    """In one process, since imports take most of the time."""
    (tmp_path / "work").mkdir()
    measured = command("tiny", tmp_path / "work", results.path, *CASES)
    done = subprocess.run(measured, env=os.environ | RANK, capture_output=True, text=True, check=False)
    content = json.loads(results.path.read_text())
    assert (done.returncode, content["failed"]) == (0, []), done.stderr[-3000:]
    rows = results.rows()
    assert all(math.isfinite(number) and number > 0 for r in rows for number in (r.ours, r.other, r.ratio))
    metrics = [r.metric for r in rows]
    assert metrics == [
        "FLOP/s",
        "seconds",
        "windows/s",
        "share of peak",
        "memory",
        "relative error",
        "relative error",
        "tokens/s",
        "share of peak",
        "memory",
        "parameters",
        "windows/s",
    ]
    gathered = rows[metrics.index("parameters")]
    assert gathered.ours == gathered.other
    assert content["details"]["stage3"]["backend"] == "gloo"
    assert content["details"]["kernels"]["packed attention ran"]
