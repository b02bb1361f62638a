"""Starting weights for a small EEGPT that is trained from scratch, without a published checkpoint."""

import torch

from e2llm_core.encoders.eegpt import EEGPT, SFREQ_HZ

_TOP_HZ = 50.0


@torch.no_grad()
def fourier_start(encoder: EEGPT, embedding_std: float = 1.5) -> None:
    """Start the patch embedding as Hann-windowed cosines and sines, from 2 Hz to 50 Hz.

    A patch embedding drawn at random must first discover oscillations; from this basis the blocks read band power
    at once. Channel and summary embeddings start at the scale of the patches, since the blocks' layer norms would
    otherwise divide the amplitude away. The architecture and the state dict are those of EEGPT.

    Parameters
    ----------
    encoder : EEGPT
        Changed in place.
    embedding_std : float
        Standard deviation of channel and summary embeddings.
    """
    weight = encoder.patch_embed.proj.weight
    dim, patch_size = weight.shape[0], weight.shape[-1]
    seconds = torch.arange(patch_size) / SFREQ_HZ
    freqs = 2.0 + torch.arange(dim // 2) * ((_TOP_HZ - 2.0) / (dim // 2))
    phase = 2 * torch.pi * freqs[:, None] * seconds
    waves = torch.stack([phase.cos(), phase.sin()], dim=1).flatten(0, 1) * torch.hann_window(patch_size)
    waves = waves / waves.norm(dim=1, keepdim=True)
    weight.copy_(waves.reshape(weight.shape))
    encoder.patch_embed.proj.bias.zero_()
    encoder.chan_embed.weight.normal_(0, embedding_std)
    encoder.summary_token.normal_(0, embedding_std)
