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
_TOLD = 6
"""Quantities that the worded projector tells where a spec does not say."""
_OPENING, _PIECES, _LABELS = 3, 6, 7
"""Estimates of the tokens of *points to* and of a quantity's words, and of the number of labels."""


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
    if config.kind == "worded":
        return [
            *mlp,
            Tensors(name="opening", numel=_OPENING * llm_width),
            Tensors(name="labels", numel=_LABELS * llm_width),
            Tensors(name="addresses", numel=_QUANTITIES * _PIECES * llm_width),
            Tensors(name="ordinals", numel=(config.strongest or _TOLD) * llm_width),
            Tensors(name="directions", numel=2 * _QUANTITIES * llm_width),
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
    """Embeddings that the language model sees of one segment: CLS and one per patch, queries, or words."""
    if projector.kind == "resampler":
        return projector.num_queries or _RESAMPLER_QUERIES
    if projector.kind == "worded":
        return 2 + _OPENING + min(projector.strongest or _TOLD, _QUANTITIES) * (_PIECES + 1)
    return 1 + patches
