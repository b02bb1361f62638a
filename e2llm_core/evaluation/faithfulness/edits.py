"""A band's power of one region, changed in the signal itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.signal.bands import BANDS
from storage.signal.channels import region_of


@dataclass(frozen=True)
class BandEdit:
    """Multiply what a region's channels have within a band by `gain`, an amplitude."""

    band: str
    region: str
    gain: float


def edited(
    signal_uv: np.ndarray, edits: Sequence[BandEdit | None], channels: Sequence[str], sfreq_hz: float
) -> np.ndarray:
    """Windows with an edit each; None leaves one as it is.

    The band is cut in the window's own spectrum, at the edges by which claims are measured: frequencies outside it and
    channels of other regions stay as they are. A later average reference spreads the change over all channels.

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
