"""Features of the power in five bands."""

import numpy as np
from numpy.typing import NDArray

from e2llm_core.evaluation.references.differential_entropy import band_power, differential_entropy
from e2llm_core.evaluation.references.features.base import Features

_FLOOR_UV2 = 1e-6


class DifferentialEntropy(Features):
    """Differential entropy of each band and channel; see `differential_entropy`."""

    name = "differential_entropy"

    def measure(self, eeg_uv: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float32]:
        """Differential entropy (batch, n_chans * 5) in nats."""
        return differential_entropy(eeg_uv, sfreq_hz)


class RelativePower(Features):
    """Log of each band's share of its channel's power.

    The log of the power itself is differential entropy up to a factor and a constant: after z-scores, a linear
    classifier cannot tell the two apart. A share does not depend on a window's amplitude.
    """

    name = "relative_power"

    def measure(self, eeg_uv: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float32]:
        """Logs of the shares (batch, n_chans * 5)."""
        power = np.maximum(band_power(eeg_uv, sfreq_hz), _FLOOR_UV2)
        shares = np.log(power / power.sum(axis=-1, keepdims=True))
        return np.asarray(shares, dtype=np.float32).reshape(len(eeg_uv), -1)
