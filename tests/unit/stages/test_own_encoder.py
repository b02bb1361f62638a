"""An encoder of one's own with an objective of its own, in one file: planned, trained, handed on and loaded again."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from cluster.planning.gpus import gpu_of
from cluster.planning.plan import plan_job
from e2llm_core import encoders
from e2llm_core.counts import Tensors, linear_tensors, total_numel
from e2llm_core.encoders.base import to_contract
from e2llm_core.encoders.config import InputContract, TowerConfig
from e2llm_core.stages.probe import load_probe
from e2llm_core.stages.stage1.objectives.base import Encoded, Objective, ReadWindows
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.tensors import load_strict
from e2llm_core.tower.tower import EEGTower
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.world import World
from storage.errors import InputError

CONTRACT = InputContract(sfreq_hz=256.0, unit="uV", reference="none", patch_samples=128, channels=("FP1", "O2"))


class Averaging(nn.Module):
    """One token per patch: a linear map of the channels' average."""

    name = "averaging"
    n_summary = 1
    patch_seconds = CONTRACT.patch_seconds

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Linear(CONTRACT.patch_samples, dim)

    def forward(self, signal_BCT: Tensor, channels: tuple[str, ...], sfreq_hz: float, unit: str) -> Tensor:
        average_BT = to_contract(signal_BCT, unit, CONTRACT).mean(dim=1)
        return self.embed(average_BT.unflatten(1, (-1, CONTRACT.patch_samples))).unsqueeze(2)

    def num_patches(self, n_times: int) -> int:
        return n_times // CONTRACT.patch_samples

    def config_dict(self) -> dict[str, Any]:
        return {"dim": self.dim}


class MaskedPatches(Objective):
    """Reconstruction of the encoder's tokens where the signal was masked."""

    name, head_name = "masked", "mask_head"
    inputs = ("hidden",)

    def head(self, tower: EEGTower) -> nn.Module:
        return nn.Linear(tower.dim, tower.encoder.dim)

    def targets(self, windows: ReadWindows) -> dict[str, np.ndarray]:
        patches = windows.eeg.shape[-1] // CONTRACT.patch_samples
        return {"hidden": np.stack([np.random.default_rng(id).random(patches) < 0.5 for id in windows.ids])}

    def predict(self, head: nn.Module, seen: Encoded) -> Tensor:
        hidden_BN = seen.given.get("hidden", torch.zeros(seen.encoded_BNSD.shape[:2], dtype=torch.bool))
        shown = seen.eeg_BCT * ~hidden_BN.repeat_interleave(CONTRACT.patch_samples, dim=1)[:, None]
        errors_BND = head(seen.tower(shown)[:, 1:]) - seen.encoded_BNSD[:, :, 0].detach()
        return (errors_BND**2).mean(dim=-1) * hidden_BN

    def loss(self, prediction: Tensor, given: dict[str, Any]) -> Tensor:
        return prediction.sum(dim=1) / given["hidden"].sum(dim=1).clamp(min=1)


class AveragingTower(TowerConfig):
    title: ClassVar[str] = "Averaging"
    contract: ClassVar[InputContract] = CONTRACT

    name: Literal["averaging"] = "averaging"
    dim: int = Field(8, ge=1)
    masked: float = Field(0.5, ge=0)

    @property
    def architecture(self) -> dict[str, Any]:
        return {"dim": self.dim}

    @classmethod
    def make(cls, architecture: dict[str, Any]) -> Averaging:
        return Averaging(**architecture)

    @classmethod
    def load(cls, encoder: Averaging, path: Path) -> None:
        load_strict(encoder, torch.load(path, weights_only=True), place=str(path))

    def objectives(self) -> list[tuple[float, type]]:
        return [(self.masked, MaskedPatches)]

    @property
    def patch_width(self) -> int:
        return self.dim

    def encoder_tensors(self) -> list[Tensors]:
        return linear_tensors("embed", self.contract.patch_samples, self.dim)

    def patch_tokens(self, channels: int) -> int:
        return 1

    def patch_flops(self, channels: int) -> float:
        return 2 * total_numel(self.encoder_tensors())

    def kept_numbers(self, tokens: float) -> float:
        return tokens * self.contract.patch_samples

    def working_numbers(self, tokens: float, *, backward: bool) -> float:
        return tokens * self.dim


@pytest.fixture
def plan(data, monkeypatch) -> Stage1Plan:
    monkeypatch.setattr(encoders, "_REGISTRY", dict(encoders._REGISTRY))
    encoders.register(AveragingTower)
    content = {
        "data": data.config,
        "model": {"name": "averaging", "temporal_dim": 16, "temporal_depth": 1, "temporal_heads": 2},
        "losses": {"contrastive": 0.1, "measures": 0.0},
    }
    return Stage1Plan.model_validate(content)


def micro(first: int) -> MicroBatch:
    ids = np.arange(first, first + 3)
    return MicroBatch(ids, ids, np.ones(3, np.float32))


def test_it_trains_and_is_handed_on(plan, tmp_path):
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
    assert isinstance(tower.encoder, Averaging)
    eeg = torch.from_numpy(stage.windows.read([0, 1]))
    with torch.no_grad():
        torch.testing.assert_close(tower(eeg), model.tower(eeg), rtol=0, atol=0)


def test_its_checkpoint_is_where_it_starts(plan, tmp_path):
    torch.manual_seed(1)
    source = Averaging(8)
    torch.save(source.state_dict(), tmp_path / "weights.ckpt")
    model, _ = plan.model_copy(update={"model": AveragingTower(weights=str(tmp_path / "weights.ckpt"))}).stage().build()
    assert torch.equal(model.tower.encoder.embed.weight, source.embed.weight)


def test_patches_that_are_too_short_have_no_band_powers(plan, monkeypatch):
    monkeypatch.setattr(AveragingTower, "contract", replace(CONTRACT, patch_samples=32))
    with pytest.raises(InputError, match=r"losses\.patch_powers: a patch of Averaging lasts 0\.125 s"):
        plan.stage()


def test_it_is_planned(plan):
    work = plan.workload()
    planned = plan_job(work, 2, gpu_of("h200"))
    tower = next(part for part in work.parts if part.name == "tower")
    assert tower.parameters == sum(p.numel() for p in plan.stage().build()[0].tower.parameters())
    assert (work.patches, planned.fits) == (2, True)
    assert encoders.tower_config({"name": "averaging", "dim": 8}, {"dim": 16, "depth": 1, "num_heads": 2}) == plan.model
