"""Claims about band power."""

import numpy as np

from e2llm_core.claims.kind import ClaimKind, Spectra
from storage.signal.bands import BANDS


def log_power(spectra: Spectra, band: str) -> np.ndarray:
    """Logarithm of the mean power of a region's channels in a band (batch, regions)."""
    mean = spectra.power[..., spectra.inside(band)].mean(axis=-1)
    return np.log(mean @ spectra.average.T + 1e-6)


POWER = ClaimKind(
    name="power",
    bands=tuple(BANDS),
    measure=log_power,
    sentence="{band} power over the {region} region is {word} the session average",
    words=("above", "below"),
    notes=("above", "below"),
    mentions=("powers?", "session average"),
)
