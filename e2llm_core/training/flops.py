"""Model FLOPs: the arithmetic that a training step needs, whatever is recomputed, padded or filled up on the way.

A product of an (m, k) and a (k, n) matrix counts 2 m k n; norms, activations and look-ups count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e2llm_core.llm.supervision import supervised_positions
from e2llm_core.training.deepspeed_private import whole_shape


@dataclass(frozen=True)
class LanguageFlops:
    """What one token, one supervised position and one pair of positions cost in a causal language model.

    Attributes
    ----------
    layers
        Weights that one token meets in all layers; of a mixture of experts those of the chosen experts.
    head
        Weights of the output head.
    pair
        Forward FLOPs of one (query, key) pair over all layers and heads.
    adapter
        Weights of the adapters that one token meets.
    trainable
        Whether the language model's own weights train.
    """

    layers: int
    head: int
    pair: int
    adapter: int = 0
    trainable: bool = True

    @classmethod
    def of(cls, config: Any, adapter: int = 0, trainable: bool = True) -> LanguageFlops:
        """Read the sizes from the transformers config of a dense model or a mixture of experts."""
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
        attention = config.hidden_size * (2 * queries + 2 * keys)
        layers = sum(attention + _feed_forward(config, layer) for layer in range(config.num_hidden_layers))
        head = config.hidden_size * config.vocab_size
        return cls(layers, head, 4 * queries * config.num_hidden_layers, adapter, trainable)

    @classmethod
    def of_model(cls, llm: Any) -> LanguageFlops:
        """Read the sizes from a language model, and from its parameters what trains: all of it, or adapters."""
        named = [(name, parameter) for name, parameter in llm.named_parameters() if parameter.requires_grad]
        adapter = sum(math.prod(whole_shape(p)) for name, p in named if "lora_" in name)
        return cls.of(llm.config, adapter, any("lora_" not in name for name, _ in named))

    def forward(self, tokens: float, supervised: float, pairs: float) -> float:
        """Count a forward pass over `tokens`, of which `supervised` pass the head, attending to `pairs`."""
        return 2 * ((self.layers + self.adapter) * tokens + self.head * supervised) + self.pair * pairs

    def step(self, tokens: float, supervised: float, pairs: float) -> float:
        """Count a forward and a backward pass.

        Gradients pass through every layer on the way to the embedded EEG: a frozen weight costs one product more,
        one that trains two. Scores and weighted sums of attention have two inputs to differentiate.
        """
        own = 6 if self.trainable else 4
        weights = own * (self.layers * tokens + self.head * supervised) + 6 * self.adapter * tokens
        return weights + 3 * self.pair * pairs


def _feed_forward(config: Any, layer: int) -> int:
    """Weights that one token meets in one layer's feed-forward block."""
    experts = getattr(config, "num_experts", 0) or 0
    step = getattr(config, "decoder_sparse_step", 1)
    if not experts or layer in (getattr(config, "mlp_only_layers", None) or ()) or (layer + 1) % step:
        return int(3 * config.hidden_size * config.intermediate_size)
    chosen = 3 * config.hidden_size * config.moe_intermediate_size * config.num_experts_per_tok
    shared = getattr(config, "shared_expert_intermediate_size", 0) or 0
    gate = config.hidden_size if shared else 0
    return int(chosen + config.hidden_size * experts + 3 * config.hidden_size * shared + gate)


def causal_pairs(lengths: Sequence[int]) -> int:
    """(query, key) pairs of causal attention within sequences of these lengths."""
    return sum(length * (length + 1) // 2 for length in lengths)


def sequence_lengths(tensors: dict[str, Any]) -> list[int]:
    """Lengths of the real sequences in a micro-batch, padded or packed; rows of weight 0 are left out.

    Parameters
    ----------
    tensors
        ``input_ids`` (B, L) with ``position_ids`` that restart at 0 with every packed sample, or with an
        ``attention_mask``; a row counts if its ``weights`` (B,) or (B, L) are not all 0.
    """
    ids: Tensor = tensors["input_ids"]
    real = _real_rows(tensors)
    mask = tensors.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        return mask.sum(dim=1).cpu()[real].tolist()
    positions = tensors.get("position_ids")
    if positions is None:
        return [ids.shape[1]] * int(real.sum())
    lengths = []
    for row in positions.cpu()[real]:
        starts = torch.nonzero(row == 0).flatten().tolist()
        lengths += [stop - start for start, stop in zip(starts, [*starts[1:], len(row)], strict=True)]
    return lengths


def _real_rows(tensors: dict[str, Any]) -> Tensor:
    """Mark rows that are no fillers: (B,) bool."""
    rows = len(tensors["input_ids"])
    weights = tensors.get("weights")
    return torch.ones(rows, dtype=torch.bool) if weights is None else weights.reshape(rows, -1).any(dim=1).cpu()


def counted_on_meta(build: Callable[[], nn.Module], shape: Sequence[int], backward: bool) -> int:
    """Count the FLOPs of a module on one input by running it without memory and without arithmetic.

    Parameters
    ----------
    build
        Makes the module; called on the meta device.
    shape
        Shape of the input, which itself needs no gradient.
    backward
        Count the backward pass too.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        output = build()(torch.zeros(*shape))
        if backward:
            output.sum().backward()
    return counter.get_total_flops()


class CompositeFlops:
    """Model FLOPs of training steps of the composite model; counts its parts at the first call.

    Parameters
    ----------
    model
        An `E2LLMForConditionalGeneration`, also one whose parameters ZeRO-3 partitioned.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parts: tuple[LanguageFlops, int, int] | None = None

    def __call__(self, tensors: dict[str, Any]) -> float:
        """Count a forward and a backward pass on a micro-batch; the tower runs when there is ``eeg`` in it."""
        real = _real_rows(tensors)
        kept = supervised_positions(tensors["labels"]).cpu()[real]
        marked = int((tensors["input_ids"].cpu()[real] == self._model.config.eeg_token_id).sum())
        segments = marked // self._model.config.num_eeg_tokens
        return self.step(sequence_lengths(tensors), float(kept.sum()), segments, tower="eeg" in tensors)

    def step(self, lengths: Sequence[int], supervised: float, segments: int, tower: bool) -> float:
        """Count a forward and a backward pass over sequences of some lengths with EEG segments in them."""
        if self._parts is None:
            self._parts = (LanguageFlops.of_model(self._model.llm), *_segment_flops(self._model))
        language, project, encode = self._parts
        per_segment = project + (encode if tower else 0)
        return language.step(sum(lengths), supervised, causal_pairs(lengths)) + segments * per_segment


def tower_flops(tower: Any, backward: bool) -> int:
    """Count the FLOPs of an EEG tower on one segment."""
    from e2llm_core.tower.tower import EEGTower

    config = tower.config_dict()
    shape = (1, len(tower.eeg.channels), tower.eeg.n_times)
    return counted_on_meta(lambda: EEGTower.build(tower.eeg, config["encoder"], config["temporal"]), shape, backward)


def _segment_flops(model: Any) -> tuple[int, int]:
    """Count projector (forward and backward) and tower (backward only if it trains) on one segment."""
    from e2llm_core.model.projector import build_projector

    tower, config = model.tower, model.config
    width = config.text_config.hidden_size
    project = counted_on_meta(
        lambda: build_projector(config.projector, tower.dim, width), (1, tower.num_tokens, tower.dim), backward=True
    )
    return project, tower_flops(tower, any(parameter.requires_grad for parameter in tower.parameters()))
