"""Claims about bursts: how much of a band's envelope swings about once a second."""

import numpy as np

from e2llm_core.claims.kind import ClaimKind, Spectra

BURST_HZ = (0.75, 1.5)
ENVELOPE_HZ = (0.25, 4.25)


def burst_share(spectra: Spectra, band: str) -> np.ndarray:
    """Share of the envelope's slow power around 1 Hz (batch, regions)."""
    squared = np.fft.irfft(spectra.spectrum * spectra.inside(band), spectra.n_times) ** 2
    envelope = np.einsum("rc,bct->brt", spectra.average, squared)
    swing = np.abs(np.fft.rfft(envelope - envelope.mean(axis=-1, keepdims=True))) ** 2
    slow = (spectra.freqs_hz >= ENVELOPE_HZ[0]) & (spectra.freqs_hz < ENVELOPE_HZ[1])
    once = (spectra.freqs_hz >= BURST_HZ[0]) & (spectra.freqs_hz < BURST_HZ[1])
    share: np.ndarray = swing[..., once].sum(axis=-1) / (swing[..., slow].sum(axis=-1) + 1e-9)
    return share


BURSTS = ClaimKind(
    name="bursts",
    bands=("beta", "gamma"),
    measure=burst_share,
    sentence="{band} activity over the {region} region bursts {word} than average",
    words=("more", "less"),
    notes=("bursts more", "bursts less"),
    mentions=(r"activit(?:y|ies)", r"burst\w*"),
)
