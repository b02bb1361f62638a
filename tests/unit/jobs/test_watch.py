import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from e2llm_core.training.status import RunReader
from jobs import cli
from jobs.watch import sparkline, view
from storage.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def row(step, split="train", seconds=None, **values):
    return json.dumps({"step": step, "split": split, "seconds": seconds or step * 2.0, **values}) + "\n"


@pytest.fixture
def run(tmp_path):
    """A run that has claimed its folder and not trained a step."""
    folder = tmp_path / "stage3"
    folder.mkdir()
    (folder / "run.json").write_text('{"digest": "d", "seconds_spent": 0.0}')
    (folder / "spec.yaml").write_text(yaml.safe_dump({"kind": "stage3", "train": {"max_steps": 1000}}))
    return folder


def train(run, steps):
    values = {"nll/IED": 0.75, "nll/EPC": 0.25, "loader_wait_share": 0.013}
    values |= {"lr/lora": 1e-4, "gradient_norm": 0.5, "tokens_per_second": 12345.6, "mfu": 0.461, "memory_gb": 61.2}
    with (run / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(row(step, loss=100 / step, **values))


def shown(run):
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(view(RunReader(run).read()))
    return console.export_text()


def back_date(run, seconds):
    for path in run.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_run_without_metrics(run):
    text = shown(run)
    assert "waiting for the first step" in text
    assert "step 0 of 1,000" in text
    assert "eta" not in text


def test_a_run_that_trains(run):
    train(run, range(100, 500, 100))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(row(200, "validation", score=-0.5) + row(400, "validation", score=-0.75))
    for step in (300, 400, 500):
        folder = run / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        if step < 500:
            (folder / "COMPLETE").touch()
    (run / "progress.log").write_text("".join(f"[stage3] line {n}\n" for n in range(9)))
    text = shown(run)
    for words in (
        "● training   step 400 of 1,000   40 %   eta ",
        "loss          0.25     █▃▂▁",
        "IED         0.75",
        "EPC         0.25",
        "score -0.75   best -0.5 at step 200",
        "lora 1.00e-04",
        "12,346 tokens/s",
        "MFU 46.1%   loader wait 1.3%",
        "61.2 GB",
        "step 400, 0:0",
        "ago   older: 300",
        "[stage3] line 8",
        "last write 0:0",
    ):
        assert words in text, text
    assert "line 3" not in text
    assert "communication" not in text


def test_a_finished_run(run):
    train(run, [500, 1000])
    (run / "DONE.json").write_text('{"digest": "d", "wall_seconds": 198.4}')
    text = shown(run)
    assert "finished in 3:18" in text
    assert "100 %" in text
    assert "eta" not in text


def test_a_run_that_fell_silent(run):
    train(run, [100, 200])
    back_date(run, 900)
    assert "training" in shown(run)
    back_date(run, 1100)
    assert "silent for 18:2" in shown(run)


def test_a_hung_ranks_stacks_are_named(run):
    (run / "stacks").mkdir()
    (run / "stacks" / "rank-0.txt").touch()
    (run / "stacks" / "rank-1.txt").write_text("Timeout!")
    text = shown(run)
    assert "stacks/rank-1.txt" in text
    assert "rank-0" not in text


def test_the_eta_follows_the_newest_attempt(run):
    with (run / "metrics.jsonl").open("a") as file:
        for step in (100, 200, 300):
            file.write(row(step, seconds=float(step)))
        file.write(row(400, seconds=10.0) + row(500, seconds=20.0))
    assert RunReader(run).read().eta_seconds == pytest.approx(50, abs=40)


def test_only_new_lines_are_read_and_a_replaced_file_is_read_anew(run):
    reader = RunReader(run)
    train(run, [100, 200])
    assert reader.read().step == 200
    with (run / "metrics.jsonl").open("a") as file:
        file.write(row(300)[:9])
    assert reader.read().step == 200
    with (run / "metrics.jsonl").open("a") as file:
        file.write(row(300)[9:])
    assert [r["step"] for r in reader.read().train] == [100, 200, 300]
    (run / "new").write_text(row(100))
    (run / "new").replace(run / "metrics.jsonl")
    assert [r["step"] for r in reader.read().train] == [100]


def test_a_loss_that_is_not_a_number_is_shown_and_left_out_of_the_curve(run):
    (run / "metrics.jsonl").write_text(row(1, loss=2.0) + row(2, loss=1.0) + row(3, loss=float("nan")))
    assert "nan      █▁" in shown(run)


def test_a_part_that_is_the_whole_loss_is_not_repeated(run):
    (run / "metrics.jsonl").write_text(row(1, loss=2.0, nll=2.0))
    assert "nll" not in shown(run)


def test_brackets_in_names_are_no_markup(run):
    (run / "progress.log").write_text("[bold]as it is[/bold]\n")
    assert "[bold]as it is[/bold]" in shown(run)


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([1, 1, 1], "▁▁▁"),
        ([0, 7], "▁█"),
        ([0, float("inf"), 7, float("nan")], "▁█"),
        (list(range(400)), "▁▂▄▅▇█"),
    ],
)
def test_sparkline(values, curve):
    assert sparkline(values, 6) == curve


def test_the_command_prints_once_where_it_cannot_redraw(run):
    train(run, [100])
    for arguments in (["--once"], []):
        result = CliRunner().invoke(cli.app, ["watch", str(run), *arguments])
        assert result.exit_code == 0
        assert "step 100 of 1,000" in result.output


def test_a_folder_that_is_no_run_is_refused_and_runs_nearby_are_named(run):
    with pytest.raises(InputError, match=r"holds no run\. .*stage3"):
        RunReader(run.parent)
    (run / "model").mkdir()
    with pytest.raises(InputError, match=r"holds no run\. .*stage3"):
        RunReader(run / "model")
    with pytest.raises(InputError, match="no such run"):
        RunReader(run / "nowhere" / "else")


def test_the_reader_needs_no_torch():
    code = "import sys, jobs.watch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
