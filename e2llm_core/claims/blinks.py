"""Claims about blinks.

Definition: deflections of the mean over the channels next to the eyes (FP, AF) that have a blink's shape. The signal,
0.5 to 8 Hz, is correlated with a raised cosine of 300 ms. Blinks go one way, rhythms and noise both ways: where the
largest deflection is at least twice the largest of the other polarity, its peak and those of its polarity that reach
0.4 of it are counted, 200 ms apart; elsewhere nothing is. Unit: per second. Source: blinks in the EEG, Hoffmann
& Falkenstein (2008), doi 10.1371/journal.pone.0003004; matching with a template, Li et al. (2006), Physiological
Measurement 27; spontaneous rate, 17 a minute at rest, Bentivoglio et al. (1997), doi 10.1002/mds.870120629. The
thresholds are ours.
"""

import numpy as np

from e2llm_core.claims.kind import NO_REGION, ClaimKind
from e2llm_core.claims.montage import Montage
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form

BLINK_SECONDS, APART_SECONDS = 0.3, 0.2
BLINK_HZ = (0.5, 8.0)
ONE_WAY, OF_LARGEST = 2.0, 0.4


def near_the_eyes(montage: Montage) -> tuple[str, ...]:
    """One quantity, where there are channels next to the eyes."""
    return (NO_REGION,) if montage.frontopolar.size else ()


def blink_rate(spectra: Spectra, band: str) -> np.ndarray:
    """Blinks per second (batch, 1)."""
    from scipy.ndimage import maximum_filter1d

    shape = np.hanning(round(BLINK_SECONDS * spectra.sfreq_hz) + 2)
    slow = (spectra.freqs_hz >= BLINK_HZ[0]) & (spectra.freqs_hz < BLINK_HZ[1])
    template = np.conj(np.fft.rfft(shape, spectra.n_times)) * slow
    mean = spectra.spectrum[:, spectra.montage.frontopolar].mean(axis=1)
    likeness = np.fft.irfft(mean * template, spectra.n_times)
    upwards, downwards = likeness.max(axis=-1, keepdims=True), -likeness.min(axis=-1, keepdims=True)
    upright = np.where(upwards >= downwards, likeness, -likeness)
    largest, opposite = np.maximum(upwards, downwards), np.minimum(upwards, downwards)
    one_way = (largest >= ONE_WAY * opposite) & (largest > 0)
    width = 2 * round(APART_SECONDS * spectra.sfreq_hz) + 1
    peaks = upright == maximum_filter1d(upright, width, axis=-1, mode="wrap")
    counts = (peaks & (upright >= OF_LARGEST * largest) & one_way).sum(axis=-1, keepdims=True)
    rate: np.ndarray = counts * (spectra.sfreq_hz / spectra.n_times)
    return rate


_OFTEN = (("more often", "less often"),)

BLINKS = ClaimKind(
    name="blinks",
    sites=near_the_eyes,
    measure=blink_rate,
    forms=(
        Form("the blink rate is {word} {average}", (("above", "below"),)),
        Form("the blink rate is {word} than {average}", (("higher", "lower"),)),
        Form("the eyes blink {word} than {average}", _OFTEN),
        Form("blinks come {word} than {average}", _OFTEN),
        Form("blinking is {word} than {average}", (("more frequent", "less frequent"),)),
    ),
    notes=("above", "below"),
    mentions=(r"blink\w*",),
    noted="blinks",
)
