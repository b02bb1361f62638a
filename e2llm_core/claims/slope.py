"""Claims about the spectral slope.

Definition: least-squares slope of log power over log frequency from 1 to 50 Hz, without the alpha band, whose peak
would tilt it; power is averaged over a region's channels before the logarithm. Unit: log power per log frequency; -1
for 1/f. In whitened windows the session's own slope is taken out, and this is the difference from it. Source: Voytek et
al. (2015), doi 10.1523/JNEUROSCI.2332-14.2015; Gao et al. (2017), doi 10.1016/j.neuroimage.2017.06.078; Donoghue et
al. (2020), doi 10.1038/s41593-020-00744-x, who fit peaks too.
"""

import numpy as np

from e2llm_core.claims.kind import ClaimKind
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form
from storage.signal.bands import BANDS


def slope(spectra: Spectra, band: str) -> np.ndarray:
    """Slope of log power over log frequency (batch, regions)."""
    fitted = np.any([spectra.inside(name) for name in BANDS if name != "alpha"], axis=0)
    power = np.log(spectra.average @ spectra.power[..., fitted] + 1e-6)
    log_hz = np.log(spectra.freqs_hz[fitted])
    centred = log_hz - log_hz.mean()
    found: np.ndarray = power @ (centred / (centred**2).sum()).astype(power.dtype)
    return found


_STEEP, _FALLS = (("flatter", "steeper"),), (("less steeply", "more steeply"), ("more slowly", "faster"))

SLOPE = ClaimKind(
    name="slope",
    measure=slope,
    forms=(
        Form("the spectral slope over the {region} region is {word} than {average}", _STEEP),
        Form("over the {region} region, the spectral slope is {word} than {average}", _STEEP),
        Form("the spectrum over the {region} region is {word} than {average}", _STEEP),
        Form("the {region} region shows a spectrum {word} than {average}", _STEEP),
        Form("over the {region} region, the spectrum falls off {word} than {average}", _FALLS),
    ),
    notes=("flatter", "steeper"),
    mentions=("slopes?", r"spectr\w+", r"steep\w*", r"flatter"),
    noted="slope",
)
