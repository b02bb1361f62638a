"""`e2llm plan`: what people read, what machines read, and what is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.planning.plan import JobPlan
from e2llm_core.sizes.llm import LLM_SIZES
from e2llm_core.stages.stage3.plan import DEFAULT_LLM
from jobs import cli
from jobs.load import load_spec
from jobs.spec import SPECS

JOBS = Path(__file__).resolve().parents[3] / "jobs"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A run of `e2llm plan` in an empty folder: nothing that the specs name is there."""
    monkeypatch.setenv("E2LLM_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(spec: str, *arguments: str):
        return CliRunner().invoke(cli.app, ["plan", str(JOBS / spec), *arguments])

    return run


@pytest.mark.parametrize("spec", ["stage1.yaml", "stage2.yaml", "demo/stage1.yaml", "tiny-llm.yaml"])
def test_a_table_for_people(planned, spec):
    result = planned(spec, "--gpus", "4")
    assert result.exit_code == 0, result.output
    for word in ("activations", "total", "step", "GPU-hours", "checkpoint", "Fits on 4 x h200 (1 node)", "Fastest"):
        assert word in result.output


def test_json_for_machines(planned):
    result = planned("stage3.yaml", "model.llm=Qwen/Qwen3-14B", "--gpus", "16", "--gpu", "h100-80", "--json")
    assert result.exit_code == 0
    plan = JobPlan.model_validate(json.loads(result.stdout))
    assert (plan.gpu, plan.gpus, plan.nodes, plan.llm) == ("h100-80", 16, 2, "Qwen/Qwen3-14B")
    assert plan.memory.total == plan.memory_bytes
    assert plan.memory.host_total == plan.host_bytes == plan.memory.host["checkpoint copy"] > 0


def test_what_cannot_fit_is_refused_with_the_largest_item(planned):
    """The command of the project's own description."""
    whole = ("model.llm=Qwen/Qwen3-32B", "train.lora=null", "--gpus", "1", "--gpu", "a100-40")
    result = planned("stage3.yaml", *whole)
    assert result.exit_code == 2
    assert "Does not fit on 1 x a100-40" in result.stdout
    (line,) = result.stderr.splitlines()
    assert "the largest item is optimizer with 393.5 GB" in line
    assert "It fits on --gpus " in line
    result = planned("stage3.yaml", *whole, "--json")
    assert result.exit_code == 2
    assert not JobPlan.model_validate(json.loads(result.stdout)).fits


def test_the_shipped_language_model_is_assumed_where_stage_2_has_not_run(planned):
    asked = ("stage3.yaml", "--gpus", "8", "--gpu", "h200")
    result = planned(*asked)
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0]
    assert first.startswith(f"Assumes {DEFAULT_LLM}, the shipped default (model.llm=... names another): there is no ")
    assert first.endswith("runs/seed-vii/stage2/model.")
    assumed, named = (
        JobPlan.model_validate(json.loads(planned(*asked, *words, "--json").stdout))
        for words in ((), (f"model.llm={DEFAULT_LLM}",))
    )
    assert assumed.llm_note == first
    assert named == assumed.model_copy(update={"llm_note": None})
    assert "Assumes" not in planned(*asked, f"model.llm={DEFAULT_LLM}").stdout


def test_what_is_assumed_is_what_stage_2_ships_and_stage_3_leaves_open():
    stage2, stage3 = (load_spec(JOBS / name, [], SPECS).spec for name in ("stage2.yaml", "stage3.yaml"))
    assert (stage2.model.llm, stage3.model.llm) == (DEFAULT_LLM, None)


def test_main_memory_that_does_not_suffice_is_refused_with_its_largest_item(planned):
    whole = ("model.llm=Qwen/Qwen2.5-72B", "train.lora=null", "train.offload=nvme", "train.nvme_path=/disk")
    result = planned("stage3.yaml", *whole, "train.micro_batch=4", "--gpus", "8", "--gpu", "a100-40")
    assert result.exit_code == 2
    for row in ("main memory: optimizer", "main memory: checkpoint copy", "NVMe, per GPU"):
        assert row in result.stdout
    (line,) = result.stderr.splitlines()
    assert "needs 291.1 GB of main memory per GPU, of which 121.6 GB can be used" in line
    assert "the largest item is optimizer with 109.2 GB" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage2.yaml", "model.llm=Qwen/Qwen9-1T"], "model.llm: Qwen/Qwen9-1T: no such folder, and the sizes"),
        (["stage2.yaml", "--gpu", "abacus"], "--gpu abacus: unknown GPU"),
        (["ingest.yaml"], "is not a training job. Plan tiny-llm, stage1, stage2 or stage3."),
        (["stage2.yaml", "train.micro_bach=3"], "unknown key; did you mean 'micro_batch'?"),
    ],
)
def test_refusals_are_one_line(planned, arguments, message):
    result = planned(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line


def test_what_is_there_is_read(planned, tmp_path):
    """Stage 2's folder says which language model, projector and tower it holds."""
    size = LLM_SIZES["Qwen/Qwen3-0.6B"]
    folder = tmp_path / "runs/seed-vii/stage2/model"
    folder.mkdir(parents=True)
    text = {
        "model_type": size.model_type,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "intermediate_size": size.intermediate,
        "vocab_size": size.vocab,
        "tie_word_embeddings": size.tied,
    }
    projector = {"kind": "mlp", "hidden": 64, "init_rms": 0.02}
    (folder / "config.json").write_text(json.dumps({"text_config": text, "projector": projector}))
    encoder = {"name": "eegpt", "dim": 64, "depth": 1, "num_heads": 2, "n_summary": 4, "mlp_ratio": 4.0}
    temporal = {"dim": 32, "depth": 1, "num_heads": 2, "max_patches": 64, "dropout": 0.0}
    (folder / "tower.json").write_text(json.dumps({"encoder": encoder, "temporal": temporal, "eeg": {}}))
    plan = JobPlan.model_validate(json.loads(planned("stage3.yaml", "--json").stdout))
    assert size.parameters < plan.parameters < 1.03 * size.parameters
    assert not any("is not there" in note for note in plan.assumptions)
