"""The encoder of docs/extending.md, with an objective of its own: planned, trained, exported and loaded again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cluster.planning.gpus import gpu_of
from cluster.planning.plan import plan_job
from e2llm_core import encoders
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.stages.probe import load_probe
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.world import World
from storage.errors import InputError
from tests.extending import edited


@pytest.fixture
def averaging(add, monkeypatch) -> type[TowerConfig]:
    add("e2llm_core/encoders/averaging/config.py")
    add("e2llm_core/encoders/averaging/architecture.py")
    add("e2llm_core/stages/stage1/objectives/masked_patches.py")
    kind: type[TowerConfig] = edited("e2llm_core/encoders/__init__.py")["_BUILTIN"][-1]
    monkeypatch.setattr(encoders, "_REGISTRY", dict(encoders._REGISTRY))
    encoders.register(kind)
    return kind


@pytest.fixture
def plan(data, averaging) -> Stage1Plan:
    content = {
        "data": data.config,
        "model": {"name": "averaging", "temporal_dim": 16, "temporal_depth": 1, "temporal_heads": 2},
        "losses": {"contrastive": 0.1, "measures": 0.0},
    }
    return Stage1Plan.model_validate(content)


def micro(first: int) -> MicroBatch:
    ids = np.arange(first, first + 3)
    return MicroBatch(ids, ids, np.ones(3, np.float32))


def test_it_trains_and_is_exported(plan, tmp_path):
    stage = plan.stage()
    torch.manual_seed(0)
    model, groups = stage.build()
    optimizer = torch.optim.AdamW([{"params": group.parameters} for group in groups], lr=1e-2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(3):
        batches = stage.gradient_cache(model, [stage.prepare(micro(3 * step)), stage.prepare(micro(3 * step + 3))])
        for batch in batches:
            losses = stage.losses(model, batch)
            scale = {"classification": 1.0, "contrastive": 0.1, "patch_powers": 0.5, "masked": 0.5}
            assert list(losses.parts) == list(scale)
            torch.testing.assert_close(losses.total, sum(scale[name] * p.total for name, p in losses.parts.items()))
            losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert {"score", "gap"} <= stage.validate(model.eval(), World()).keys()

    stage.export(model, dict(model.named_parameters()), tmp_path)
    tower, _ = load_probe(tmp_path)
    assert tower.encoder.name == plan.model.name
    eeg = torch.from_numpy(stage.windows.read([0, 1]))
    with torch.no_grad():
        torch.testing.assert_close(tower(eeg), model.tower(eeg), rtol=0, atol=0)


def test_its_checkpoint_is_where_it_starts(plan, averaging, tmp_path):
    torch.manual_seed(1)
    source = averaging.make({"dim": 8})
    torch.save(source.state_dict(), tmp_path / "weights.ckpt")
    model, _ = plan.model_copy(update={"model": averaging(weights=str(tmp_path / "weights.ckpt"))}).stage().build()
    assert torch.equal(model.tower.encoder.embed.weight, source.embed.weight)


def test_patches_that_are_too_short_have_no_band_powers(plan, averaging, monkeypatch):
    monkeypatch.setattr(averaging, "contract", replace(averaging.contract, patch_samples=32))
    with pytest.raises(InputError, match=r"losses\.patch_powers: a patch of Averaging lasts 0\.125 s"):
        plan.stage()


def test_it_is_planned(plan):
    work = plan.workload()
    planned = plan_job(work, 2, gpu_of("h200"))
    tower = next(part for part in work.parts if part.name == "tower")
    assert tower.parameters == sum(p.numel() for p in plan.stage().build()[0].tower.parameters())
    assert (work.patches, planned.fits) == (2, True)
    assert encoders.tower_config({"name": "averaging", "dim": 8}, {"dim": 16, "depth": 1, "num_heads": 2}) == plan.model
