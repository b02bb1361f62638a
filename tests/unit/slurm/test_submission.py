"""`e2llm slurm` and the script that it submits."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.slurm.submission import Request
from jobs import cli
from storage.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = "cluster/slurm/job.sbatch"
STAGE2 = ("jobs/stage2.yaml", "model.llm=Qwen/Qwen3-8B")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An `sbatch` that repeats what it is told, and a site."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > $SAID\necho "71;north"\n')
    (commands / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("E2LLM_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(ROOT)
    return tmp_path


def slurm(*arguments):
    return CliRunner().invoke(cli.app, ["slurm", *arguments])


def test_a_dry_run_shows_plan_command_and_script_and_submits_nothing(repository):
    result = slurm(*STAGE2, "--nodes", "2", "--gpus-per-node", "8", "--gpu", "h100-80", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "Fits on 16 x h100-80 (2 nodes)" in result.stdout
    assert f"sbatch --nodes=2 --gpus-per-node=8 {SCRIPT} jobs/stage2.yaml model.llm=Qwen/Qwen3-8B\n" in result.stdout
    assert result.stdout.endswith((ROOT / SCRIPT).read_text())
    assert not (repository / "said").exists()


def test_it_submits_what_the_dry_run_shows(repository):
    fold = ["data.split={protocol: official-folds, fold: {task}}", "run=runs/fold-{task}/stage1"]
    asked = ["--nodes", "4", "--gpus-per-node", "8", "--time", "12:00:00", "--array", "1-4"]
    result = slurm("jobs/stage1.yaml", *fold, *asked)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("\njob 71 submitted; log: slurm-71_*.out\n")
    options = ["--parsable", "--nodes=4", "--gpus-per-node=8", "--time=12:00:00", "--array=1-4"]
    assert (repository / "said").read_text().splitlines() == [*options, SCRIPT, "jobs/stage1.yaml", *fold]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs/stage3.yaml", "train.max_stepz=3"], "unknown key; did you mean 'max_steps'?"),
        (["jobs/stage3.yaml", "run=runs/{task}"], "there is no array. Submit with --array=1-4"),
        (["jobs/stage3.yaml", "data.split={protocol: official-folds, fold: {task}}", "--array", "1-5"], "<= 4, got 5"),
        (["jobs/stage3.yaml", "--array", "a-b"], "--array a-b: 'a-b' is not a number or range"),
        (["jobs/demo/stage1.yaml", "--gpus-per-node", "8"], "use no GPU. Add resources.gpus_per_worker=1."),
        ([*STAGE2, "--gpus-per-node", "8", "--gpu", "abacus"], "--gpu abacus: unknown GPU"),
        ([*STAGE2], "--gpus-per-node: is not given, and each worker asks for 1 GPUs. Add it"),
        (["jobs/features.yaml"], "--gpus-per-node: is not given, and each worker asks for 1 GPUs. Add it"),
        (
            ["jobs/score.yaml", "--nodes", "1", "--gpus-per-node", "1"],
            "resources.workers: 4 are needed and each worker asks for 1 GPUs; 1 nodes with 1 GPUs each have room for 1",
        ),
        (["jobs/score.yaml", "resources.gpus_per_worker=2", "--nodes", "2", "--gpus-per-node", "3"], "room for 2."),
        ([*STAGE2, "resources.workers={min: 5, max: 9}", "--gpus-per-node", "4"], "5 are needed"),
        ([*STAGE2, "resources.gpus_per_worker=2", "--gpus-per-node", "1"], "1 are needed"),
        (["jobs/score.yaml", "resources.workers={task}", "--array", "1-2", "--gpus-per-node", "1"], "2 are needed"),
    ],
)
def test_refusals_are_one_line_and_nothing_is_submitted(repository, arguments, message):
    result = slurm(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not (repository / "said").exists()


def test_what_cannot_fit_is_not_submitted(repository):
    whole = ["jobs/stage3.yaml", "model.llm=Qwen/Qwen3-32B", "train.lora=null"]
    result = slurm(*whole, "--gpus-per-node", "1", "--gpu", "a100-40")
    assert result.exit_code == 2
    assert "the largest item is" in result.stderr
    assert not (repository / "said").exists()


def test_workers_that_are_named_are_planned_for(repository):
    named = [*STAGE2, "resources.workers=6", "--nodes", "2", "--gpus-per-node", "8", "--dry-run"]
    assert "Fits on 6 x h200" in slurm(*named).stdout


@pytest.mark.parametrize(
    "asked",
    [
        ["jobs/score.yaml", "--nodes", "2", "--gpus-per-node", "2"],
        ["jobs/score.yaml", "resources.workers=10", "resources.gpus_per_worker=0.1", "--gpus-per-node", "1"],
        ["jobs/demo/score.yaml"],
        ["jobs/demo/stage1.yaml"],
        ["jobs/ingest.yaml", "resources.workers=32"],
    ],
)
def test_workers_that_have_room_or_need_no_gpu_are_submitted(repository, asked):
    result = slurm(*asked)
    assert result.exit_code == 0, result.output
    assert (repository / "said").exists()


def test_it_runs_in_the_repository_alone(repository, monkeypatch):
    monkeypatch.chdir(repository)
    result = slurm(str(ROOT / "jobs/stage3.yaml"))
    assert result.exit_code == 2
    assert "is not the root of the repository" in result.stderr


@pytest.mark.parametrize(
    ("array", "numbers"),
    [
        (None, [None]),
        ("3", ["3"]),
        ("1-4", ["1", "2", "3", "4"]),
        ("0,2,7%2", ["0", "2", "7"]),
        ("0-10:5,1", ["0", "5", "10", "1"]),
    ],
)
def test_numbers_of_an_array(array, numbers):
    assert Request(nodes=1, array=array).tasks() == numbers


@pytest.mark.parametrize("array", ["", "4-", "1-4:0", "1;2", "-1"])
def test_arrays_that_are_none(array):
    with pytest.raises(InputError, match="is not a number or range"):
        Request(nodes=1, array=array).tasks()


def test_the_script_refuses_another_folder(tmp_path):
    command = ["bash", str(ROOT / SCRIPT), "jobs/stage3.yaml"]
    done = subprocess.run(command, env=os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}: is not the root of the repository. Submit the job from there.\n"


def test_the_script_reads_the_site_and_hands_everything_on(tmp_path):
    for name in (SCRIPT, "bin/python", "cluster/slurm/site.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / SCRIPT, tmp_path / SCRIPT)
    (tmp_path / "cluster/slurm/site.sh").write_text(f"export PATH={tmp_path}/bin:$PATH SITE=here\n")
    (tmp_path / "bin/python").write_text('#!/bin/bash\necho "$SITE $SRUN_CPUS_PER_TASK $PWD"; printf "%s\\n" "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)
    variables = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "6"}
    command = ["bash", tmp_path / SCRIPT, "a spec.yaml", "x={a: 1}"]
    said = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"here 6 {tmp_path}", "-m", "jobs.slurm", "a spec.yaml", "x={a: 1}"]


def test_an_elastic_job_keeps_its_allocation_when_it_loses_a_node(repository):
    elastic = ["jobs/stage1.yaml", "resources.workers={min: 1, max: 8}"]
    shown = slurm(*elastic, "--nodes", "2", "--gpus-per-node", "8", "--dry-run").stdout
    assert f"sbatch --nodes=2 --gpus-per-node=8 --no-kill {SCRIPT} " in shown


def test_a_job_is_warned_in_time_and_requeued():
    given = set(re.findall(r"^#SBATCH --(.*)$", (ROOT / SCRIPT).read_text(), re.MULTILINE))
    assert {"requeue", "signal=B:USR1@600", "ntasks-per-node=1", "open-mode=append"} <= given


def test_the_example_of_a_site_is_a_script_that_says_what_sbatch_reads():
    example = ROOT / "cluster/slurm/site.example.sh"
    said = subprocess.run(["bash", "-uec", f"source {example}; env"], capture_output=True, text=True, check=True).stdout
    assert "SBATCH_ACCOUNT=my-project" in said.splitlines()
