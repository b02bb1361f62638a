"""Projectors from EEG tower tokens to the language model's embedding space.

The output starts at the root mean square of the language model's own embeddings: a final LayerNorm times one
learned gain, kept as a logarithm so that its relative step does not depend on the embedding scale.

Shape suffixes: G segments, L tower tokens, E tower dimension, Q query tokens or quantities, S quantities that are
told, M LLM dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
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


READING = "reading."
"""Name before those of the tensors of a worded projector's `LinearReading`."""

STRONGEST = 6
"""Quantities that a worded projector tells of a segment by default."""


@dataclass(frozen=True)
class FittedReading:
    """What a `LinearReading` reads with.

    Attributes
    ----------
    weight, bias
        (Q, 2 * E), (Q,): from `pooled` tokens to deviations.
    label_weight, label_bias
        (C, E), (C,): from the tower's summary to the logits of the labels.
    towards
        (C, Q): what it adds to a deviation's size that a label's windows deviate to the same side.
    """

    weight: Tensor
    bias: Tensor
    label_weight: Tensor
    label_bias: Tensor
    towards: Tensor


class LinearReading(nn.Module):
    """Fixed linear maps that read signal quantities from the tower's tokens, and find those that deserve to be told.

    Parameters
    ----------
    d_in
        Width of the tower's tokens.
    quantities, labels
        Numbers of quantities that are read, and of labels that they can speak for.
    strongest
        Quantities that are told of each segment.
    """

    def __init__(self, d_in: int, quantities: int, labels: int, strongest: int) -> None:
        super().__init__()
        self.strongest = strongest
        self.weight: Tensor
        self.bias: Tensor
        self.label_weight: Tensor
        self.label_bias: Tensor
        self.towards: Tensor
        self.register_buffer("weight", torch.zeros(quantities, 2 * d_in))
        self.register_buffer("bias", torch.zeros(quantities))
        self.register_buffer("label_weight", torch.zeros(labels, d_in))
        self.register_buffer("label_bias", torch.zeros(labels))
        self.register_buffer("towards", torch.zeros(labels, quantities))

    def forward(self, h_GLE: Tensor) -> Tensor:
        """Read the quantities' deviations from their references, in standard deviations: (G, L, E) -> (G, Q)."""
        return F.linear(pooled(h_GLE), self.weight, self.bias)

    def salience(self, h_GLE: Tensor, readings_GQ: Tensor) -> Tensor:
        """How much each quantity deserves to be told: (G, L, E), (G, Q) -> (G, Q).

        Its deviation's size, and how far the likely labels' windows deviate to the same side.
        """
        return readings_GQ.abs() + readings_GQ.sign() * (self.likely(h_GLE) @ self.towards)

    def likely(self, h_GLE: Tensor) -> Tensor:
        """How likely each label is: (G, L, E) -> (G, C)."""
        return F.linear(h_GLE[:, 0], self.label_weight, self.label_bias).softmax(dim=1)

    def told(self, h_GLE: Tensor, readings_GQ: Tensor) -> Tensor:
        """Places of the quantities that are told, in their order: (G, L, E), (G, Q) -> (G, strongest) int64."""
        return self.salience(h_GLE, readings_GQ).topk(self.strongest, dim=1).indices

    @classmethod
    def started(cls, fitted: FittedReading, strongest: int | None) -> LinearReading:
        """Reads with fitted maps and tells `strongest` quantities; None: as many as projectors do by default."""
        (number, _), (labels, d_in) = fitted.weight.shape, fitted.label_weight.shape
        made = cls(d_in, number, labels, min(strongest or STRONGEST, number))
        made.start(fitted)
        return made

    @torch.no_grad()
    def start(self, fitted: FittedReading) -> None:
        """Set the maps."""
        for field in fields(fitted):
            self.get_buffer(field.name).copy_(getattr(fitted, field.name))


def pooled(h_GLE: Tensor) -> Tensor:
    """A tower's summary beside the mean of its other tokens: (G, L, E) -> (G, 2 * E)."""
    return torch.cat([h_GLE[:, 0], h_GLE[:, 1:].mean(dim=1)], dim=-1)


class WordedProjector(nn.Module):
    """Tells what it reads in the language model's own words: what the segment points to, then what stands out in it.

    After a token for the whole segment, which an MLP makes, come the words *points to* and the labels' words, mixed by
    how likely each label is. The quantities that a `LinearReading` finds follow in their order, each as the embeddings
    of an ordinal, of its own words, and of its direction (*above*, *below*), which is mixed by the number that was
    read. The maps that read are fitted beforehand; the embeddings start as the language model's own (`start_words`) and
    are trained.

    Parameters
    ----------
    d_in, d_llm
        Width of the tower's tokens, and of the language model's embeddings.
    quantities
        Names of the quantities that are read.
    labels
        Number of labels that quantities can speak for.
    opening, pieces
        Tokens of the words *points to*, and of a quantity's words with the ordinal.
    strongest
        Quantities that are told of each segment.
    hidden
        Width of the map from the tower's first token to the embedding of the whole segment.
    init_rms
        Root mean square of the language model's embeddings.
    """

    def __init__(
        self,
        d_in: int,
        d_llm: int,
        quantities: Sequence[str],
        labels: int,
        opening: int,
        pieces: int,
        strongest: int,
        hidden: int,
        init_rms: float,
    ) -> None:
        super().__init__()
        number = len(quantities)
        self.reading = LinearReading(d_in, number, labels, min(strongest, number))
        self.opening = nn.Parameter(torch.randn(opening, d_llm) * init_rms)
        self.labels = nn.Parameter(torch.randn(labels, d_llm) * init_rms)
        self.addresses = nn.Parameter(torch.randn(number, pieces, d_llm) * init_rms)
        self.ordinals = nn.Parameter(torch.randn(self.reading.strongest, d_llm) * init_rms)
        self.ordinal_place: Tensor
        self.register_buffer("ordinal_place", torch.zeros(number, pieces))
        self.directions = nn.Parameter(torch.randn(number, 2, d_llm) * init_rms)
        self.whole = MLPProjector(d_in, d_llm, hidden, init_rms)

    def tokens(self, h_GLE: Tensor, readings_GQ: Tensor) -> Tensor:
        """Make the embeddings: (G, L, E), (G, Q) -> (G, 2 + opening + strongest * (pieces + 1), M)."""
        told_GS = self.reading.told(h_GLE, readings_GQ)
        above_GS1 = torch.sigmoid(readings_GQ.gather(1, told_GS) / _SHARPNESS)[..., None]
        high_GSM, low_GSM = self.directions[told_GS].unbind(dim=2)
        direction_GSM = above_GS1 * high_GSM + (1 - above_GS1) * low_GSM
        place_GSP1 = self.ordinal_place[told_GS][..., None]
        words_GSPM = self.addresses[told_GS] * (1 - place_GSP1) + self.ordinals[:, None] * place_GSP1
        said = torch.cat([words_GSPM, direction_GSM[:, :, None]], dim=2)
        opening_GOM = self.opening.expand(len(h_GLE), -1, -1)
        label_G1M = (self.reading.likely(h_GLE) @ self.labels)[:, None]
        return torch.cat([self.whole(h_GLE[:, :1]), opening_GOM, label_G1M, said.flatten(1, 2)], dim=1)

    def forward(self, h_GLE: Tensor) -> Tensor:
        """(G, L, E) -> (G, 2 + opening + strongest * (pieces + 1), M)."""
        return self.tokens(h_GLE, self.reading(h_GLE))


_SHARPNESS = 0.2
"""Standard deviations over which one direction passes into the other."""


@dataclass(frozen=True)
class WordIds:
    """Token ids of the words that a `WordedProjector` says.

    Attributes
    ----------
    opening
        Of *points to*.
    labels
        Of each label.
    addresses
        Of each quantity's words, equally many for all, with a place for the ordinal among them.
    ordinal_place
        For each quantity, the ordinal's place in its words.
    ordinals
        Of the words that count.
    directions
        For each quantity, of the word above its reference and of the one below it.
    """

    opening: Sequence[int]
    labels: Sequence[Sequence[int]]
    addresses: Sequence[Sequence[int]]
    ordinal_place: Sequence[int]
    ordinals: Sequence[Sequence[int]]
    directions: Sequence[tuple[Sequence[int], Sequence[int]]]

    @property
    def pieces(self) -> int:
        """Tokens of a quantity's words, with the ordinal."""
        return len(self.addresses[0])


@torch.no_grad()
def start_words(projector: WordedProjector, llm: Any, words: WordIds) -> None:
    """Start a projector's words as the language model's embeddings of them; of several tokens, as their mean.

    Parameters
    ----------
    projector
        Not yet partitioned.
    llm
        The language model; its embeddings are gathered first under ZeRO-3.
    words
        What is said.
    """
    table = llm.get_input_embeddings().weight
    with _gathered(table):
        weight = table.detach().float().to(projector.addresses.device)
        projector.opening.copy_(weight[list(words.opening)])
        projector.labels.copy_(torch.stack([weight[list(ids)].mean(dim=0) for ids in words.labels]))
        projector.addresses.copy_(torch.stack([weight[list(ids)] for ids in words.addresses]))
        counted = words.ordinals[: projector.reading.strongest]
        projector.ordinals.copy_(torch.stack([weight[list(ids)].mean(dim=0) for ids in counted]))
        means = [weight[list(ids)].mean(dim=0) for pair in words.directions for ids in pair]
        projector.directions.copy_(torch.stack(means).view_as(projector.directions))
        place = torch.tensor(words.ordinal_place)
        projector.ordinal_place.copy_(F.one_hot(place, words.pieces).to(projector.ordinal_place))


def complete_projector_config(config: dict[str, Any] | None, d_llm: int, init_rms: float) -> dict[str, Any]:
    """Fill in a projector config's defaults.

    Parameters
    ----------
    config
        ``{"kind": "mlp", "hidden": int}``, ``{"kind": "resampler", "num_queries": int, "num_heads": int}`` or
        ``{"kind": "worded", "quantities": [str, ...], "labels": int, "opening": int, "pieces": int, "strongest": int,
        "hidden": int}``.
    d_llm
        Width of the language model; the default hidden width.
    init_rms
        Root mean square of the language model's embeddings.

    Raises
    ------
    ValueError
        On an unknown kind or key, or a worded projector without its own keys.
    """
    given = dict(config or {})
    kind = given.pop("kind", "mlp")
    defaults: dict[str, dict[str, Any]] = {
        "mlp": {"hidden": d_llm, "init_rms": init_rms},
        "resampler": {"num_queries": 8, "num_heads": 8, "init_rms": init_rms},
        "worded": {"strongest": STRONGEST, "hidden": d_llm, "init_rms": init_rms},
    }
    if kind not in defaults:
        raise ValueError(f"projector.kind: {kind!r} is unknown. Choose one of {sorted(defaults)}")
    own = {"quantities", "labels", "opening", "pieces"} if kind == "worded" else set()
    if absent := sorted(own - set(given)):
        raise ValueError(
            f"projector: {absent[0]} is missing for kind {kind!r}. Name what is read, and the tokens of a name"
        )
    unknown = sorted(set(given) - set(defaults[kind]) - own)
    if unknown:
        known = sorted(own | set(defaults[kind]))
        raise ValueError(f"projector: unknown keys {unknown} for kind {kind!r}. Known keys are {known}")
    return {"kind": kind, **defaults[kind], **given}


def build_projector(config: dict[str, Any], d_in: int, d_llm: int) -> nn.Module:
    """Build the projector of a completed config; see `complete_projector_config`."""
    own = {key: value for key, value in config.items() if key != "kind"}
    return _KINDS[config["kind"]](d_in, d_llm, **own)


_KINDS: dict[str, Any] = {"mlp": MLPProjector, "resampler": ResamplerProjector, "worded": WordedProjector}


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
