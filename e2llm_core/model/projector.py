"""Projectors from EEG tower tokens to the language model's embedding space.

The output starts at the root mean square of the language model's own embeddings: a final LayerNorm times one
learned gain, kept as a logarithm so that its relative step does not depend on the embedding scale.

Shape suffixes: G segments, L tower tokens, E tower dimension, Q query tokens or quantities, M LLM dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2llm_core.encoders.blocks import FeedForward, init_transformer_weights
from e2llm_core.training.deepspeed_private import is_partitioned


class GainNorm(nn.Module):
    """LayerNorm times one positive learned gain."""

    def __init__(self, dim: int, init_rms: float) -> None:
        super().__init__()
        if not init_rms > 0 or not math.isfinite(init_rms):
            raise ValueError(f"projector.init_rms: {init_rms} is not positive. Use embedding_rms(llm)")
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.log_gain = nn.Parameter(torch.full((1,), math.log(init_rms)))

    def forward(self, h: Tensor) -> Tensor:
        """(..., M) -> (..., M)."""
        return self.norm(h) * self.log_gain.exp()


class MLPProjector(nn.Module):
    """Linear, GELU, linear and `GainNorm`, token by token."""

    def __init__(self, d_in: int, d_llm: int, hidden: int, init_rms: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(d_in, hidden), nn.GELU(), nn.Linear(hidden, d_llm))
        self.output = GainNorm(d_llm, init_rms)

    def forward(self, h_GLE: Tensor) -> Tensor:
        """(G, L, E) -> (G, L, M)."""
        return self.output(self.mlp(h_GLE))


class ResamplerProjector(nn.Module):
    """A fixed number of learned queries that read the tower tokens by cross-attention.

    Parameters
    ----------
    num_queries
        Tokens per segment that the language model sees.
    num_heads
        Attention heads; must divide `d_in`.
    """

    def __init__(self, d_in: int, d_llm: int, num_queries: int, num_heads: int, init_rms: float) -> None:
        super().__init__()
        if d_in % num_heads:
            raise ValueError(f"projector.num_heads: {num_heads} does not divide {d_in}. Choose a divisor")
        self.num_heads = num_heads
        self.queries = nn.Parameter(torch.randn(1, num_queries, d_in) * d_in**-0.5)
        self.norm_query = nn.LayerNorm(d_in, eps=1e-6)
        self.norm_input = nn.LayerNorm(d_in, eps=1e-6)
        self.query = nn.Linear(d_in, d_in)
        self.key_value = nn.Linear(d_in, 2 * d_in)
        self.proj = nn.Linear(d_in, d_in)
        self.norm_mlp = nn.LayerNorm(d_in, eps=1e-6)
        self.mlp = FeedForward(d_in, 4 * d_in)
        self.to_llm = nn.Linear(d_in, d_llm)
        init_transformer_weights(self)
        self.output = GainNorm(d_llm, init_rms)

    def forward(self, h_GLE: Tensor) -> Tensor:
        """(G, L, E) -> (G, Q, M)."""
        queries = self.queries.expand(h_GLE.shape[0], -1, -1)
        keys, values = self.key_value(self.norm_input(h_GLE)).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(self.norm_query(queries))), self._heads(keys), self._heads(values)
        )
        h_GQE = queries + self.proj(attended.transpose(1, 2).flatten(2))
        h_GQE = h_GQE + self.mlp(self.norm_mlp(h_GQE))
        return self.output(self.to_llm(h_GQE))

    def _heads(self, h: Tensor) -> Tensor:
        return h.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AddressedProjector(nn.Module):
    """A token for each signal quantity, at an address that the language model knows, and one for the whole segment.

    A quantity's token is its address, which starts as the language model's own embedding of the quantity's words, plus
    an embedding of one number that is read from the tower's tokens: the quantity's deviation from its reference. The
    numbers can be regressed on the measured deviations (`readings`); the language model sees the tokens alone.

    Parameters
    ----------
    d_in, d_llm
        Width of the tower's tokens, and of the language model's embeddings.
    quantities
        Names of the quantities, in the order of their tokens.
    hidden
        Width of the maps from a number, and from the tower's first token, to an embedding.
    init_rms
        Root mean square of the language model's embeddings.
    """

    def __init__(self, d_in: int, d_llm: int, quantities: Sequence[str], hidden: int, init_rms: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * d_in, eps=1e-6)
        self.read = nn.Linear(2 * d_in, len(quantities))
        self.addresses = nn.Parameter(torch.randn(len(quantities), d_llm) * init_rms)
        self.level = nn.Sequential(nn.Linear(1, hidden), nn.GELU(), nn.Linear(hidden, d_llm))
        self.scale = nn.Parameter(torch.full((1,), math.log(init_rms)))
        self.whole = MLPProjector(d_in, d_llm, hidden, init_rms)

    def readings(self, h_GLE: Tensor) -> Tensor:
        """Read the quantities' standardised deviations: (G, L, E) -> (G, Q)."""
        pooled = torch.cat([h_GLE[:, 0], h_GLE[:, 1:].mean(dim=1)], dim=-1)
        deviations: Tensor = self.read(self.norm(pooled))
        return deviations

    def tokens(self, h_GLE: Tensor, readings_GQ: Tensor) -> Tensor:
        """Make the embeddings: (G, L, E), (G, Q) -> (G, 1 + Q, M)."""
        levels_GQM = self.level(readings_GQ[..., None]) * self.scale.exp()
        return torch.cat([self.whole(h_GLE[:, :1]), self.addresses + levels_GQM], dim=1)

    def forward(self, h_GLE: Tensor) -> Tensor:
        """(G, L, E) -> (G, 1 + Q, M)."""
        return self.tokens(h_GLE, self.readings(h_GLE))


@torch.no_grad()
def start_addresses(projector: AddressedProjector, llm: Any, words: Sequence[Sequence[int]]) -> None:
    """Start each quantity's address at the mean of the language model's embeddings of its words.

    Parameters
    ----------
    projector
        Not yet partitioned.
    llm
        The language model; its embeddings are gathered first under ZeRO-3.
    words
        Token ids of each quantity's words.
    """
    weight = llm.get_input_embeddings().weight
    with _gathered(weight):
        means = torch.stack([weight[torch.tensor(ids, device=weight.device)].float().mean(dim=0) for ids in words])
    projector.addresses.copy_(means)


def complete_projector_config(config: dict[str, Any] | None, d_llm: int, init_rms: float) -> dict[str, Any]:
    """Fill in a projector config's defaults.

    Parameters
    ----------
    config
        ``{"kind": "mlp", "hidden": int}``, ``{"kind": "resampler", "num_queries": int, "num_heads": int}`` or
        ``{"kind": "addressed", "quantities": [str, ...], "hidden": int}``.
    d_llm
        Width of the language model; the default hidden width.
    init_rms
        Root mean square of the language model's embeddings.

    Raises
    ------
    ValueError
        On an unknown kind or key, or an addressed projector without quantities.
    """
    given = dict(config or {})
    kind = given.pop("kind", "mlp")
    defaults: dict[str, dict[str, Any]] = {
        "mlp": {"hidden": d_llm, "init_rms": init_rms},
        "resampler": {"num_queries": 8, "num_heads": 8, "init_rms": init_rms},
        "addressed": {"hidden": d_llm, "init_rms": init_rms},
    }
    if kind not in defaults:
        raise ValueError(f"projector.kind: {kind!r} is unknown. Choose one of {sorted(defaults)}")
    own = {"quantities"} if kind == "addressed" else set()
    if absent := sorted(own - set(given)):
        raise ValueError(f"projector: {absent[0]} is missing for kind {kind!r}. Name what each token reads")
    unknown = sorted(set(given) - set(defaults[kind]) - own)
    if unknown:
        known = sorted(own | set(defaults[kind]))
        raise ValueError(f"projector: unknown keys {unknown} for kind {kind!r}. Known keys are {known}")
    return {"kind": kind, **defaults[kind], **given}


def build_projector(config: dict[str, Any], d_in: int, d_llm: int) -> nn.Module:
    """Build the projector of a completed config; see `complete_projector_config`."""
    fields = {key: value for key, value in config.items() if key != "kind"}
    return _KINDS[config["kind"]](d_in, d_llm, **fields)


_KINDS: dict[str, Any] = {"mlp": MLPProjector, "resampler": ResamplerProjector, "addressed": AddressedProjector}


def embedding_rms(llm: Any) -> float:
    """Compute the RMS of a language model's input embeddings, gathered first under ZeRO-3."""
    weight = llm.get_input_embeddings().weight
    with _gathered(weight), torch.no_grad():
        return float(weight.detach().float().pow(2).mean().sqrt())


def _gathered(weight: nn.Parameter) -> Any:
    """Context in which a parameter is whole."""
    if not is_partitioned(weight):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([weight], modifier_rank=None)
