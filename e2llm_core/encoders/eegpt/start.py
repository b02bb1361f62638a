"""Starting weights for a small EEGPT that is trained from scratch, without a published checkpoint."""

from typing import Any

import torch

from e2llm_core.encoders.eegpt.architecture import EEGPT, SFREQ_HZ

_TOP_HZ = 50.0


@torch.no_grad()
def fourier_start(encoder: EEGPT, embedding_std: float = 1.5, rectifier_gain: float = 2.0) -> None:
    """Start the encoder as a bank of Hann-windowed cosines and sines from 2 Hz to 50 Hz, followed by rectifiers.

    A patch embedding drawn at random must first discover oscillations, and a block must first discover that their
    phase is of no interest. So the embedding starts as a Fourier basis, and the first block's feed-forward layer as
    its rectifier: pairs of units see each coefficient with either sign, and their sum, which does not depend on the
    sign, goes where the cosine came from. Channel and summary embeddings start at the scale of the patches, since the
    layer norms would otherwise divide the amplitude away. Architecture and state dict stay those of EEGPT.

    Parameters
    ----------
    encoder : EEGPT
        Changed in place.
    embedding_std : float
        Standard deviation of channel and summary embeddings.
    rectifier_gain : float
        Slope into the rectifying units.
    """
    weight = encoder.patch_embed.proj.weight
    dim, patch_size = weight.shape[0], weight.shape[-1]
    seconds = torch.arange(patch_size) / SFREQ_HZ
    freqs = 2.0 + torch.arange(dim // 2) * ((_TOP_HZ - 2.0) / (dim // 2))
    phase = 2 * torch.pi * freqs[:, None] * seconds
    waves = torch.stack([phase.cos(), phase.sin()], dim=1).flatten(0, 1) * torch.hann_window(patch_size)
    waves = waves / waves.norm(dim=1, keepdim=True)
    weight.copy_(waves.reshape(weight.shape))
    torch.nn.init.zeros_(encoder.patch_embed.proj.bias)  # type: ignore[arg-type]
    encoder.chan_embed.weight.normal_(0, embedding_std)
    encoder.summary_token.normal_(0, embedding_std)
    _start_rectifiers(encoder, rectifier_gain)


def _start_rectifiers(encoder: EEGPT, gain: float) -> None:
    block: Any = encoder.blocks[0]
    layer = block.mlp
    dim = layer.fc1.weight.shape[1]
    if layer.fc1.weight.shape[0] < 2 * dim:
        raise ValueError("model.mlp_ratio: a fourier start needs at least 2. Raise it, or set model.start to random")
    identity = gain * torch.eye(dim)
    layer.fc1.weight[: 2 * dim] = torch.cat([identity, -identity])
    layer.fc1.bias.zero_()
    layer.fc2.weight[:, : 2 * dim] = 0.0
    cosine = torch.arange(0, dim - 1, 2)
    for unit in (cosine, cosine + 1, dim + cosine, dim + cosine + 1):
        layer.fc2.weight[cosine, unit] = 1.0
