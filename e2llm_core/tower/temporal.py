"""Temporal transformer: adds order in time to encoder tokens that were computed patch by patch.

Shape suffixes: B batch, N time patches, S summary tokens, D encoder dimension, E temporal dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from e2llm_core.encoders.blocks import Block, init_transformer_weights


class TemporalTransformer(nn.Module):
    """Pre-norm transformer over time patches with a CLS token.

    Parameters
    ----------
    d_in
        Width of one patch: summary tokens x encoder dimension.
    dim
        Width of the output tokens.
    depth, num_heads
        Number of blocks and of attention heads.
    max_patches
        Longest window in patches; positions are learned, starting from sinusoids.
    dropout
        Applied inside the blocks while training.
    """

    def __init__(self, d_in: int, dim: int, depth: int, num_heads: int, max_patches: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.d_in = d_in
        self.dim = dim
        self.max_patches = max_patches
        self.num_heads = num_heads
        self.dropout = dropout
        self.input = nn.Linear(d_in, dim)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        init_transformer_weights(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.time_embed = nn.Parameter(sinusoids(max_patches, dim))

    def forward(self, tokens_BNSD: Tensor) -> Tensor:
        """(B, N, S, D) -> (B, 1 + N, E), the CLS token first.

        Raises
        ------
        ValueError
            If the window has more than `max_patches` patches, or S x D is not `d_in`.
        """
        batch, n_patches = tokens_BNSD.shape[:2]
        if n_patches > self.max_patches:
            raise ValueError(
                f"temporal.max_patches: the window has {n_patches} patches, the limit is {self.max_patches}. "
                "Shorten the window or train with a larger limit"
            )
        flat = tokens_BNSD.flatten(2)
        if flat.shape[-1] != self.d_in:
            raise ValueError(
                f"temporal.d_in: {self.d_in} does not match encoder tokens of width {flat.shape[-1]}. "
                "Set it to n_summary * dim of the encoder"
            )
        h_BNE = self.input(flat) + self.time_embed[:n_patches]
        h_BLE = torch.cat([self.cls_token.expand(batch, -1, -1), h_BNE], dim=1)
        for block in self.blocks:
            h_BLE = block(h_BLE)
        return self.norm(h_BLE)


def sinusoids(length: int, dim: int, max_period: float = 1000.0) -> Tensor:
    """Make sinusoidal positions, (length, dim): sines in the first half, cosines in the second."""
    half = (dim + 1) // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half) / max(half, 1))
    angles = torch.arange(length).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim].contiguous()
