"""Changes of the power of one band in one region, made in the signal itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.signal.bands import BANDS
from storage.signal.channels import region_of


@dataclass(frozen=True)
class BandEdit:
    """Multiply the band-passed part of a region's channels by `gain`, an amplitude factor."""

    band: str
    region: str
    gain: float


def edited(
    signal_uv: np.ndarray, edits: Sequence[BandEdit | None], channels: Sequence[str], sfreq_hz: float
) -> np.ndarray:
    """Apply one edit to each window; None leaves a window unchanged.

    The band is cut in the window's own spectrum, at the edges of `BANDS`. Other frequencies and the channels of other
    regions do not change; an average reference afterwards spreads the change over all channels.

    Parameters
    ----------
    signal_uv : np.ndarray
        (windows, n_chans, n_times), before normalisation.
    edits : sequence
        One per window.
    channels : sequence of str
        Canonical names.
    sfreq_hz : float
        Sampling rate.

    Returns
    -------
    np.ndarray
        float32, same shape; a new array.
    """
    regions = np.array([region_of(name) for name in channels])
    freqs_hz = np.fft.rfftfreq(signal_uv.shape[-1], 1 / sfreq_hz)
    out = np.array(signal_uv, dtype=np.float32)
    for window, edit in zip(out, edits, strict=True):
        if edit is None:
            continue
        low, high = BANDS[edit.band]
        inside, members = (freqs_hz >= low) & (freqs_hz < high), regions == edit.region
        part = np.fft.irfft(np.fft.rfft(window[members]) * inside, window.shape[-1])
        window[members] += (edit.gain - 1) * part
    return out
