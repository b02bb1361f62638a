"""The tower's and the projector's arithmetic against the modules themselves."""

import pytest
import torch

from e2llm_core.claims.table import quantities_of
from e2llm_core.counts import total_numel
from e2llm_core.encoders.eegpt.config import EEGPTTower
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.projector import build_projector, complete_projector_config
from e2llm_core.sizes.tower import projector_tensors, tokens_per_segment, tower_tensors
from e2llm_core.tower.tower import EEGSettings, build_tower
from storage.signal.channels import SEED_CHANNELS

TOWERS = [EEGPTTower(), EEGPTTower(dim=64, depth=2, num_heads=8, temporal_dim=128, temporal_depth=3, n_summary=2)]
NAMES = [quantity.name for quantity in quantities_of(SEED_CHANNELS)]
WORDED = {"quantities": NAMES, "labels": 7, "opening": 3, "pieces": 6}
PROJECTORS = [
    {"kind": "mlp"},
    {"kind": "mlp", "hidden": 100},
    {"kind": "resampler"},
    {"kind": "resampler", "num_queries": 5},
    {"kind": "worded"},
    {"kind": "worded", "strongest": 4},
]


def numels(tensors):
    return sorted(n for tensor in tensors for n in [tensor.numel] * tensor.count)


@pytest.mark.parametrize("config", TOWERS)
def test_tower(config):
    with torch.device("meta"):
        tower = build_tower(config, EEGSettings(channels=("CZ",)))
    assert numels(tower_tensors(config)) == sorted(p.numel() for p in tower.parameters())
    assert tokens_per_segment(ProjectorConfig(kind="mlp"), config.contract.num_patches(4.0)) == tower.num_tokens == 17


def test_the_published_encoder():
    """EEGPT large has 25,287,168 parameters."""
    assert total_numel(EEGPTTower().encoder_tensors()) == 25_287_168


@pytest.mark.parametrize("settings", PROJECTORS)
def test_projector(settings):
    config = ProjectorConfig(**settings)
    given = config.settings() | (WORDED if config.kind == "worded" else {})
    module = build_projector(complete_projector_config(given, 256, 1.0), 64, 256)
    assert module(torch.zeros(1, 17, 64)).shape[1] == tokens_per_segment(config, 16)
    assert numels(projector_tensors(config, 64, 256)) == sorted(p.numel() for p in module.parameters())
