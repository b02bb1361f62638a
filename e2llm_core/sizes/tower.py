"""Parameter arithmetic of the EEG tower and the projector. Light to import."""

from e2llm_core.model.config import ProjectorConfig
from e2llm_core.sizes.llm import Tensors
from e2llm_core.tower.config import TowerConfig

_PATCH_SAMPLES = 64
_CHANNELS = 62
_MOST_PATCHES = 64
_RESAMPLER_QUERIES = 8


def _linear(name: str, inputs: int, outputs: int, count: int = 1) -> list[Tensors]:
    weight = Tensors(name=f"{name}.weight", numel=inputs * outputs, count=count)
    return [weight, Tensors(name=f"{name}.bias", numel=outputs, count=count)]


def _norm(name: str, width: int, count: int = 1) -> Tensors:
    return Tensors(name=name, numel=width, count=2 * count)


def _blocks(name: str, width: int, hidden: int, count: int) -> list[Tensors]:
    return [
        _norm(f"{name}.norms", width, 2 * count),
        *_linear(f"{name}.qkv", width, 3 * width, count),
        *_linear(f"{name}.proj", width, width, count),
        *_linear(f"{name}.fc1", width, hidden, count),
        *_linear(f"{name}.fc2", hidden, width, count),
    ]


def encoder_tensors(config: TowerConfig) -> list[Tensors]:
    """Parameter tensors of the EEGPT encoder."""
    return [
        Tensors(name="summary_token", numel=config.n_summary * config.dim),
        *_linear("patch_embed", _PATCH_SAMPLES, config.dim),
        Tensors(name="chan_embed", numel=_CHANNELS * config.dim),
        *_blocks("encoder", config.dim, int(config.dim * config.mlp_ratio), config.depth),
        _norm("encoder.norm", config.dim),
    ]


def temporal_tensors(config: TowerConfig) -> list[Tensors]:
    """Parameter tensors of the temporal transformer (windows of at most 16 s)."""
    width = config.temporal_dim
    return [
        *_linear("temporal.input", config.n_summary * config.dim, width),
        Tensors(name="cls_token", numel=width),
        Tensors(name="time_embed", numel=_MOST_PATCHES * width),
        *_blocks("temporal", width, 4 * width, config.temporal_depth),
        _norm("temporal.norm", width),
    ]


def tower_tensors(config: TowerConfig) -> list[Tensors]:
    """Parameter tensors of the EEG tower."""
    return [*encoder_tensors(config), *temporal_tensors(config)]


def projector_tensors(config: ProjectorConfig, width: int, llm_width: int) -> list[Tensors]:
    """Parameter tensors of the projector.

    Parameters
    ----------
    config
        Its shape.
    width, llm_width
        Of the tower's tokens, and of the language model.
    """
    output = [Tensors(name="log_gain", numel=1), _norm("output.norm", llm_width)]
    if config.kind == "mlp":
        hidden = config.hidden or llm_width
        return [*_linear("mlp.0", width, hidden), *_linear("mlp.2", hidden, llm_width), *output]
    return [
        Tensors(name="queries", numel=(config.num_queries or _RESAMPLER_QUERIES) * width),
        _norm("norms", width, 3),
        *_linear("query", width, width),
        *_linear("key_value", width, 2 * width),
        *_linear("proj", width, width),
        *_linear("fc1", width, 4 * width),
        *_linear("fc2", 4 * width, width),
        *_linear("to_llm", width, llm_width),
        *output,
    ]


def tokens_per_segment(projector: ProjectorConfig, window_seconds: float) -> int:
    """Embeddings that the language model sees of one segment: CLS and one per 250 ms, or the resampler's queries."""
    if projector.kind == "resampler":
        return projector.num_queries or _RESAMPLER_QUERIES
    return 1 + patches(window_seconds)


def patches(window_seconds: float) -> int:
    """Time patches of one segment."""
    return int(window_seconds * 256) // _PATCH_SAMPLES
