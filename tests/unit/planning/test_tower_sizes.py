"""The tower's and the projector's arithmetic against the modules themselves."""

import pytest
import torch

from e2llm_core.counts import total_numel
from e2llm_core.encoders.eegpt.config import EEGPTTower
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.projector import build_projector, complete_projector_config
from e2llm_core.sizes.tower import projector_tensors, tokens_per_segment, tower_tensors
from e2llm_core.tower.tower import EEGSettings, build_tower

TOWERS = [EEGPTTower(), EEGPTTower(dim=64, depth=2, num_heads=8, temporal_dim=128, temporal_depth=3, n_summary=2)]
PROJECTORS = [{}, {"hidden": 100}, {"kind": "resampler"}, {"kind": "resampler", "num_queries": 5}]


def numels(tensors):
    return sorted(n for tensor in tensors for n in [tensor.numel] * tensor.count)


@pytest.mark.parametrize("config", TOWERS)
def test_tower(config):
    with torch.device("meta"):
        tower = build_tower(config, EEGSettings(channels=("CZ",)))
    assert numels(tower_tensors(config)) == sorted(p.numel() for p in tower.parameters())
    assert tokens_per_segment(ProjectorConfig(), config.contract.num_patches(4.0)) == tower.num_tokens == 17


def test_the_published_encoder():
    """EEGPT large has 25,287,168 parameters."""
    assert total_numel(EEGPTTower().encoder_tensors()) == 25_287_168


@pytest.mark.parametrize("settings", PROJECTORS)
def test_projector(settings):
    config = ProjectorConfig(**settings)
    module = build_projector(complete_projector_config(config.settings(), 256, 1.0), 64, 256)
    assert numels(projector_tensors(config, 64, 256)) == sorted(p.numel() for p in module.parameters())
