import pytest
import torch

from e2llm_core.encoders import load_encoder
from e2llm_core.encoders.eegpt.start import fourier_start


def test_fourier_start_changes_values_only():
    config = {"dim": 16, "depth": 2, "num_heads": 2}
    random, fourier = (load_encoder("eegpt", weights=None, config=dict(config)) for _ in range(2))
    fourier_start(fourier)
    shapes = [{name: value.shape for name, value in encoder.state_dict().items()} for encoder in (random, fourier)]
    assert shapes[0] == shapes[1]
    assert all(value.isfinite().all() for value in fourier.state_dict().values())
    weight = fourier.patch_embed.proj.weight.flatten(1)
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(16))
    spectrum = torch.fft.rfft(weight, 1024).abs().argmax(dim=1) * 256 / 1024
    expected = 2.0 + torch.arange(8).repeat_interleave(2) * (48.0 / 8)
    torch.testing.assert_close(spectrum, expected, atol=2.5, rtol=0)  # the window blurs


def test_fourier_start_refuses_a_narrow_feed_forward_layer():
    encoder = load_encoder("eegpt", weights=None, config={"dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 1.0})
    with pytest.raises(ValueError, match="mlp_ratio"):
        fourier_start(encoder)
