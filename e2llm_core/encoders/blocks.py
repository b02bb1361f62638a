"""Pre-norm transformer block shared by the EEG encoder and the temporal transformer.

Parameter names (``norm1``, ``attn.qkv``, ``attn.proj``, ``norm2``, ``mlp.fc1``, ``mlp.fc2``) are those of timm's
vision transformer, as in published checkpoints of EEG encoders, so that their blocks load without renaming.

Shape suffixes: B batch, L tokens, Q query tokens, D model dimension, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with one fused q, k, v projection."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads: {num_heads} does not divide dim {dim}. Choose a divisor of dim")
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, h_BLD: Tensor, query_start: int = 0) -> Tensor:
        """Attend from the tokens at and after `query_start` to all tokens: (B, L, D) -> (B, Q, D)."""
        batch, length, dim = h_BLD.shape
        qkv = self.qkv(h_BLD).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout_p = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q[:, :, query_start:], k, v, dropout_p=dropout_p)
        return self.proj(out.transpose(1, 2).reshape(batch, length - query_start, dim))


class FeedForward(nn.Module):
    """Two linear layers with exact GELU."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, h_BLD: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return self.fc2(self.drop(F.gelu(self.fc1(h_BLD))))


class Block(nn.Module):
    """Pre-norm transformer block: ``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float = 4.0, eps: float = 1e-6, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio), dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, h_BLD: Tensor, query_start: int = 0) -> Tensor:
        """(B, L, D) -> (B, L - query_start, D): only tokens from `query_start` on are computed."""
        h_BQD = h_BLD[:, query_start:] + self.drop(self.attn(self.norm1(h_BLD), query_start))
        return h_BQD + self.drop(self.mlp(self.norm2(h_BQD)))


def init_transformer_weights(module: nn.Module, std: float = 0.02) -> None:
    """Set truncated-normal weights, zero biases and identity norms in `module` and its children."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d | nn.Embedding):
            nn.init.trunc_normal_(child.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(child, nn.Linear | nn.Conv2d) and child.bias is not None:
            nn.init.zeros_(child.bias)
        if isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)


def module_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype of the first parameter (also valid for parameters partitioned by ZeRO-3)."""
    return next(module.parameters()).dtype
