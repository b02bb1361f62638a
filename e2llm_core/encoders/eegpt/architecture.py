"""EEGPT target encoder (Wang et al., NeurIPS 2024): spatial attention within each 250 ms patch.

An own implementation whose state dict has the keys, shapes and order of the published checkpoint's
``target_encoder``. There is no mixing across time patches here; see `e2llm_core.tower.temporal`.

Shape suffixes: B batch, C channels, T samples, N time patches, S summary tokens, D encoder dimension,
P = B * N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e2llm_core.encoders.base import config_to_dict, to_contract
from e2llm_core.encoders.blocks import Block, init_transformer_weights, module_dtype
from e2llm_core.encoders.eegpt.contract import CHANNELS, CONTRACT

SFREQ_HZ = CONTRACT.sfreq_hz
_CHANNEL_ID = {name: index for index, name in enumerate(CHANNELS)}


@dataclass(frozen=True)
class EEGPTConfig:
    """Size of an EEGPT encoder; the defaults are the published large model (25,287,168 parameters).

    `patch_size` and `patch_stride` are samples at 256 Hz (64 = 250 ms); a stride below the size makes
    patches overlap.
    """

    patch_size: int = CONTRACT.patch_samples
    patch_stride: int = CONTRACT.patch_samples
    dim: int = 512
    n_summary: int = 4
    depth: int = 8
    num_heads: int = 8
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-6
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("patch_size", "patch_stride", "dim", "n_summary", "depth", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"EEGPTConfig.{name}: {getattr(self, name)} is too small. Give at least 1")


class PatchEmbed(nn.Module):
    """Linear embedding of each channel's patches, stored as Conv2d(1, D, (1, patch_size))."""

    def __init__(self, config: EEGPTConfig) -> None:
        super().__init__()
        kernel, stride = (1, config.patch_size), (1, config.patch_stride)
        self.proj = nn.Conv2d(1, config.dim, kernel_size=kernel, stride=stride)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """(B, C, T) -> (B, N, C, D)."""
        return self.proj(x_BCT.unsqueeze(1)).permute(0, 3, 2, 1)


class EEGPT(nn.Module):
    """EEGPT target encoder.

    Parameters
    ----------
    config
        Size of the model.

    Examples
    --------
    >>> encoder = EEGPT(EEGPTConfig(dim=64, depth=1, num_heads=2))
    >>> encoder(torch.zeros(2, 3, 1024), ["FP1", "CZ", "O2"], sfreq_hz=256, unit="uV").shape
    torch.Size([2, 16, 4, 64])
    """

    name = "eegpt"

    def __init__(self, config: EEGPTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config if config is not None else EEGPTConfig()
        self.dim = config.dim
        self.n_summary = config.n_summary
        self.patch_seconds = config.patch_stride / SFREQ_HZ
        self.summary_token = nn.Parameter(torch.zeros(1, config.n_summary, config.dim))
        self.patch_embed = PatchEmbed(config)
        self.chan_embed = nn.Embedding(len(CHANNELS), config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.num_heads, config.mlp_ratio, config.layer_norm_eps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        init_transformer_weights(self, config.init_std)
        nn.init.trunc_normal_(self.summary_token, std=config.init_std)

    def forward(
        self, signal_BCT: Tensor, channels: Sequence[str], sfreq_hz: float = SFREQ_HZ, unit: str = CONTRACT.unit
    ) -> Tensor:
        """Encode windows into summary tokens.

        Parameters
        ----------
        signal_BCT
            (batch, n_chans, n_times), floating point. Hand it over in float32 also where the encoder is in bfloat16:
            what all channels share is subtracted before the cast, or its rounding would drown what differs.
        channels
            One name per row of the signal, any letter case, each in `CHANNELS`.
        sfreq_hz
            Sampling rate in hertz; must be 256.
        unit
            ``"mV"``, ``"uV"`` or ``"V"``: converted to millivolts and average-referenced over the given
            channels. ``"whitened"`` and ``"zscore"``: dimensionless unit-variance signals, used as they are.

        Returns
        -------
        Tensor
            (batch, n_patches, n_summary, dim).

        Raises
        ------
        ValueError
            If the shape, a channel, the sampling rate, the unit or the window length does not fit.
        """
        ids = self._channel_ids(channels, signal_BCT)
        if sfreq_hz != SFREQ_HZ:
            raise ValueError(f"sfreq_hz: EEGPT needs 256, got {sfreq_hz:g}. Resample the signal first")
        self.num_patches(signal_BCT.shape[-1])
        x_BCT = to_contract(signal_BCT, unit, CONTRACT).to(module_dtype(self))

        h_BNCD = self.patch_embed(x_BCT) + self.chan_embed(ids)
        batch, n_patches, n_chans, dim = h_BNCD.shape
        h_PCD = h_BNCD.reshape(batch * n_patches, n_chans, dim)
        h_PLD = torch.cat([h_PCD, self.summary_token.expand(batch * n_patches, -1, -1)], dim=1)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            h_PLD = block(h_PLD, query_start=n_chans if index == last else 0)
        return self.norm(h_PLD).reshape(batch, n_patches, self.n_summary, dim)

    def num_patches(self, n_times: int) -> int:
        """Count the patches of a window of `n_times` samples at 256 Hz.

        Raises
        ------
        ValueError
            If the window is shorter than a patch or would leave a rest.
        """
        size, stride = self.config.patch_size, self.config.patch_stride
        if n_times < size or (n_times - size) % stride:
            raise ValueError(
                f"window: {n_times} samples do not divide into patches of {size} every {stride} samples. "
                f"Choose a window of {size} + k * {stride} samples at 256 Hz"
            )
        return (n_times - size) // stride + 1

    def config_dict(self) -> dict[str, Any]:
        """Return the fields of `EEGPTConfig` in their JSON form."""
        return config_to_dict(self.config)

    def _channel_ids(self, channels: Sequence[str], signal_BCT: Tensor) -> Tensor:
        if signal_BCT.ndim != 3 or not signal_BCT.is_floating_point():
            raise ValueError(
                f"signal: expected a floating-point tensor (batch, n_chans, n_times), got {signal_BCT.dtype} "
                f"{tuple(signal_BCT.shape)}. Reshape or convert it first"
            )
        if signal_BCT.shape[1] != len(channels):
            raise ValueError(
                f"channels: {len(channels)} names for {signal_BCT.shape[1]} signal rows. Give one name per row"
            )
        return torch.tensor(channel_ids(channels), device=signal_BCT.device)


def channel_ids(channels: Sequence[str]) -> list[int]:
    """Look up the rows of the channel embedding table for channel names (any letter case, dots ignored).

    Raises
    ------
    ValueError
        If a name is unknown or appears twice, or the list is empty.
    """
    names = [name.upper().replace(".", "").strip() for name in channels]
    unknown = [channel for channel, name in zip(channels, names, strict=True) if name not in _CHANNEL_ID]
    if unknown:
        raise ValueError(f"channels: EEGPT does not know {unknown}. Drop or rename them; it knows {' '.join(CHANNELS)}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise ValueError(f"channels: repeated {repeated} or empty. Give each channel once, at least one")
    return [_CHANNEL_ID[name] for name in names]
