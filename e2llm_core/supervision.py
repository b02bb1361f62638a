"""Next-token supervision at labelled positions only.

Shape suffixes: B batch, L sequence, N supervised tokens of the batch, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""Label of positions without supervision."""


def supervised_positions(labels: Tensor) -> Tensor:
    """Mark positions whose next token is supervised: (B, L) labels -> (B, L) bool."""
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = labels[:, 1:] != IGNORED
    return keep


def token_nll(logits_NV: Tensor, labels: Tensor) -> Tensor:
    """Compute the float32 cross-entropy at `supervised_positions`: (N, V), (B, L) -> (N,)."""
    targets = labels[:, 1:][labels[:, 1:] != IGNORED]
    return F.cross_entropy(logits_NV.float(), targets, reduction="none")


def sum_per_row(nll_N: Tensor, labels: Tensor) -> Tensor:
    """Add up the values of `token_nll` for each row: (N,), (B, L) -> (B,)."""
    counts = supervised_positions(labels).sum(dim=1)
    rows = torch.arange(labels.shape[0], device=labels.device).repeat_interleave(counts)
    return nll_N.new_zeros(labels.shape[0]).index_add(0, rows, nll_N)
