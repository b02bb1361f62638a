"""Same weights, same input: our encoder against braindecode's, where that is installed."""

import pytest
import torch

from e2llm_core.encoders.eegpt.architecture import EEGPT, EEGPTConfig
from e2llm_core.encoders.eegpt.contract import PRETRAINED_CHANNELS

pytest.importorskip("braindecode", reason="braindecode is not installed; the parity test is optional")


def test_features_equal_braindecode():
    from braindecode.models import EEGPT as BraindecodeEEGPT

    channels = list(PRETRAINED_CHANNELS)
    other = BraindecodeEEGPT(
        n_outputs=2,
        n_chans=len(channels),
        chs_info=[{"ch_name": name} for name in channels],
        n_times=1024,
        sfreq=256,
        patch_stride=64,
        chan_proj_type="none",
        return_encoder_output=True,
    ).eval()
    ours = EEGPT(EEGPTConfig()).eval()
    ours.load_state_dict(other.target_encoder.state_dict(), strict=True)
    signal = torch.randn(2, len(channels), 1024)
    with torch.no_grad():
        features = other(signal, return_features=True)["features"]
        tokens = ours(signal, channels, sfreq_hz=256, unit="whitened")
    torch.testing.assert_close(tokens.flatten(2), features, atol=1e-5, rtol=1e-4)
