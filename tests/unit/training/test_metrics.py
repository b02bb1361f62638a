import json

from e2llm_core.training.metrics import PROGRESS, MetricsLog, read_metrics, record_choices
from e2llm_core.training.world import World


def logged(run, first_step, steps, world=None, max_steps=100):
    log = MetricsLog(run, "stage1", max_steps, first_step, world or World())
    for step in steps:
        log.write(step, "train", {"loss": 1 / step, "units": 8.0})
    log.close()


def test_rows_after_the_resumed_checkpoint_are_dropped(tmp_path):
    logged(tmp_path, 0, range(1, 8))
    logged(tmp_path, 4, [5, 6])
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in rows] == [1 / step for step in range(1, 7)]


def test_a_row_cut_by_a_kill_is_dropped_and_written_anew(tmp_path):
    logged(tmp_path, 0, [1, 2, 3])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    logged(tmp_path, 2, [3])
    assert [row["step"] for row in map(json.loads, path.read_text().splitlines())] == [1, 2, 3]


def test_a_run_without_metrics_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_fresh_start_forgets_a_run_without_checkpoint(tmp_path):
    logged(tmp_path, 0, [1, 2])
    logged(tmp_path, 0, [1])
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_only_the_first_rank_writes(tmp_path):
    logged(tmp_path, 0, [1, 2], World(rank=1, size=2))
    assert list(tmp_path.iterdir()) == []


def test_progress_is_one_line_per_row_with_an_eta(tmp_path):
    logged(tmp_path, 0, [50])
    (line,) = (tmp_path / PROGRESS).read_text().splitlines()
    assert line.startswith("[stage1] 50/100  train  loss 0.02  ")
    assert "units" not in line
    assert line.rsplit("eta ")[1] == "0:00"


def test_choices_are_told_and_recorded_beside_what_is_known(tmp_path):
    (tmp_path / "environment.json").write_text('{"python": "3"}')
    record_choices(tmp_path, "stage3", {"attention": "sdpa (there is no GPU)"}, World(rank=1, size=2))
    record_choices(tmp_path, "stage1", {}, World())
    assert not (tmp_path / PROGRESS).exists()
    record_choices(tmp_path, "stage3", {"attention": "sdpa (there is no GPU)"}, World(size=2))
    assert (tmp_path / PROGRESS).read_text() == "[stage3] attention sdpa (there is no GPU)\n"
    known = json.loads((tmp_path / "environment.json").read_text())
    assert known == {"python": "3", "choices": {"attention": "sdpa (there is no GPU)"}}
