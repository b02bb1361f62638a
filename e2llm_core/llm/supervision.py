"""Next-token supervision by fused linear cross-entropy: only supervised positions reach the head, block by block.

Shape suffixes: B batch, L sequence, N supervised tokens of the batch, M width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100
"""Label of positions without supervision."""

_LOGITS_AT_ONCE = 2**25
"""Numbers in one block of logits: 128 MiB in float32, 220 tokens of a vocabulary of 152,000."""


def supervised_positions(labels: Tensor) -> Tensor:
    """Mark positions whose next token is supervised: (B, L) labels -> (B, L) bool."""
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = labels[:, 1:] != IGNORED
    return keep


def supervised_places(labels: Tensor) -> Tensor:
    """Places of `supervised_positions` in the flattened labels: (B, L) -> (N,) int64. Waits for a GPU's labels."""
    return supervised_positions(labels).flatten().nonzero().squeeze(1)


def next_tokens(values: Tensor, places: Tensor) -> Tensor:
    """Take the labels (or other values) of the tokens that follow some places: (B, L), (N,) -> (N,)."""
    return values.flatten().index_select(0, places + 1)


def sum_per_row(nll_N: Tensor, labels: Tensor) -> Tensor:
    """Add up values at `supervised_positions` for each row: (N,), (B, L) -> (B,)."""
    counts = supervised_positions(labels).sum(dim=1)
    rows = torch.arange(labels.shape[0], device=labels.device).repeat_interleave(counts)
    return nll_N.new_zeros(labels.shape[0]).index_add(0, rows, nll_N)


class SupervisedHead(nn.Linear):
    """An output head with fused linear cross-entropy: it scores tokens without ever holding the logits of all of them.

    Blocks of positions are scored one after the other, and where gradients are wanted each block's is computed while
    its logits are there. So the weight is used once forward, whatever the number of blocks: under ZeRO-3, where the
    number may differ between ranks, all of them gather it equally often.
    """

    @classmethod
    def install(cls, llm: Any) -> None:
        """Let a language model score with its own head's parameters, whether tied or partitioned.

        Raises
        ------
        ValueError
            If its head is not a linear map without bias.
        """
        head = llm.get_output_embeddings()
        if isinstance(head, cls):
            return
        if not isinstance(head, nn.Linear) or head.bias is not None:
            raise ValueError(f"lm_head: {type(head).__name__} is not a linear map without bias. Use another model")
        scoring = cls(head.in_features, head.out_features, bias=False, device="meta")
        scoring.weight = head.weight
        llm.set_output_embeddings(scoring)

    def forward(self, hidden: Tensor, targets: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Return logits; with `targets` the weighted sum of the negative log-likelihoods, and each of them.

        Parameters
        ----------
        hidden
            (..., M); with targets (N, M).
        targets
            (N,) token ids.
        weights
            (N,) float32, what each token counts; 1 by default.

        Returns
        -------
        Tensor or tuple of Tensor
            Logits (..., V), or a float32 scalar and float32 (N,) in nats, of which only the scalar is differentiable.
        """
        if targets is None:
            return super().forward(hidden)
        given = torch.ones(len(targets), device=hidden.device) if weights is None else weights
        weight = self.weight
        if not torch.is_grad_enabled():  # a Function is asked for gradients by its inputs alone
            hidden, weight = hidden.detach(), weight.detach()
        return _WeightedNLL.apply(hidden, weight, targets, given)


class _WeightedNLL(torch.autograd.Function):
    """Weighted cross-entropy of a linear map's outputs, block by block."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NM: Tensor, weight_VM: Tensor, targets_N: Tensor, weights_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad
        hidden_gradient = torch.zeros_like(hidden_NM) if wanted[0] else None
        weight_gradient = torch.zeros_like(weight_VM) if wanted[1] else None
        nll_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_NM.device)
        size = max(1, _LOGITS_AT_ONCE // weight_VM.shape[0])
        for start in range(0, len(targets_N), size):
            block = slice(start, start + size)
            logits = F.linear(hidden_NM[block], weight_VM).float()
            targets = targets_N[block, None]
            normaliser = torch.logsumexp(logits, dim=1, keepdim=True)
            nll_N[block] = (normaliser - logits.gather(1, targets)).squeeze(1)
            if hidden_gradient is None and weight_gradient is None:
                continue
            slope = logits.sub_(normaliser).exp_()
            slope.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=slope.dtype))
            slope = slope.mul_(weights_N[block, None]).to(weight_VM.dtype)
            if hidden_gradient is not None:
                hidden_gradient[block] = slope @ weight_VM
            if weight_gradient is not None:
                weight_gradient.addmm_(slope.T, hidden_NM[block])
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(nll_N)
        return (nll_N * weights_N).sum(), nll_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        scaled = [None if g is None else g * gradients[0].to(g.dtype) for g in (hidden_gradient, weight_gradient)]
        return scaled[0], scaled[1], None, None


def score_tokens(
    llm: Any, labels: Tensor, weights: Tensor | None = None, supervised: Tensor | None = None, **inputs: Any
) -> tuple[Tensor, Tensor]:
    """Run a language model and score its supervised positions.

    Parameters
    ----------
    llm
        A transformers causal language model with a `SupervisedHead`.
    labels
        (B, L), -100 where not supervised.
    weights
        (B, L) float32, what predicting each token counts; 1 by default.
    supervised
        (N,) int64, `supervised_places` of the labels, so that nothing waits for a GPU; else they are found here.
    **inputs
        Of its decoder. No cache is made: with one, packed rows would silently attend to each other.

    Returns
    -------
    total : Tensor
        Weighted sum of the negative log-likelihoods, float32.
    nll : Tensor
        (N,) each of them in nats, without a gradient.
    """
    hidden_BLM = llm.get_decoder()(**inputs, use_cache=False).last_hidden_state
    places = supervised_places(labels) if supervised is None else supervised
    hidden_NM = hidden_BLM.flatten(0, 1).index_select(0, places)
    given = None if weights is None else next_tokens(weights, places)
    total, nll = llm.get_output_embeddings()(hidden_NM, next_tokens(labels, places), given)
    return total, nll
