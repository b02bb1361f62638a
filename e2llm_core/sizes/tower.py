"""Parameter arithmetic of the EEG tower and the projector. Light to import."""

from e2llm_core.claims.table import quantities_of
from e2llm_core.counts import Tensors, block_tensors, linear_tensors, norm_tensors
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.model.config import ProjectorConfig
from storage.signal.channels import SEED_CHANNELS

_MOST_PATCHES = 64
_RESAMPLER_QUERIES = 8
_QUANTITIES = len(quantities_of(SEED_CHANNELS))
"""Signal quantities of a montage that covers every region."""


def temporal_tensors(config: TowerConfig) -> list[Tensors]:
    """Parameter tensors of the temporal transformer (windows of at most 64 patches)."""
    width = config.temporal_dim
    return [
        *linear_tensors("temporal.input", config.patch_width, width),
        Tensors(name="cls_token", numel=width),
        Tensors(name="time_embed", numel=_MOST_PATCHES * width),
        *block_tensors("temporal", width, 4 * width, config.temporal_depth),
        norm_tensors("temporal.norm", width),
    ]


def tower_tensors(config: TowerConfig) -> list[Tensors]:
    """Parameter tensors of the EEG tower."""
    return [*config.encoder_tensors(), *temporal_tensors(config)]


def projector_tensors(config: ProjectorConfig, width: int, llm_width: int) -> list[Tensors]:
    """Parameter tensors of the projector.

    Parameters
    ----------
    config
        Settings of the projector.
    width, llm_width
        Width of the tower's tokens, and of the language model's embeddings.
    """
    output = [Tensors(name="log_gain", numel=1), norm_tensors("output.norm", llm_width)]
    hidden = config.hidden or llm_width
    mlp = [*linear_tensors("mlp.0", width, hidden), *linear_tensors("mlp.2", hidden, llm_width), *output]
    if config.kind == "mlp":
        return mlp
    if config.kind == "addressed":
        return [
            *mlp,
            norm_tensors("norm", 2 * width),
            *linear_tensors("read", 2 * width, _QUANTITIES),
            Tensors(name="addresses", numel=_QUANTITIES * llm_width),
            *linear_tensors("level.0", 1, hidden),
            *linear_tensors("level.2", hidden, llm_width),
            Tensors(name="scale", numel=1),
        ]
    return [
        Tensors(name="queries", numel=(config.num_queries or _RESAMPLER_QUERIES) * width),
        norm_tensors("norms", width, 3),
        *linear_tensors("query", width, width),
        *linear_tensors("key_value", width, 2 * width),
        *linear_tensors("proj", width, width),
        *linear_tensors("fc1", width, 4 * width),
        *linear_tensors("fc2", 4 * width, width),
        *linear_tensors("to_llm", width, llm_width),
        *output,
    ]


def tokens_per_segment(projector: ProjectorConfig, patches: int) -> int:
    """Embeddings that the language model sees of one segment: CLS and one per patch, the queries, or the quantities."""
    if projector.kind == "resampler":
        return projector.num_queries or _RESAMPLER_QUERIES
    if projector.kind == "addressed":
        return 1 + _QUANTITIES
    return 1 + patches
