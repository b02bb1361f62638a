"""Claims about variability: how much a band's power changes within the window.

Definition: coefficient of variation (standard deviation over mean) of a region's band power over patches of 250 ms, at
every place in the window, which is taken as circular. Unit: none. Source: the coefficient of variation of the envelope,
Díaz et al. (2018), NeuroImage 172; patches are ours, 250 ms being one of EEGPT's.
"""

import numpy as np

from e2llm_core.claims.kind import ClaimKind
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form

PATCH_SECONDS = 0.25


def variation(spectra: Spectra, band: str) -> np.ndarray:
    """Coefficient of variation of band power over patches (batch, regions)."""
    kept = np.sinc(spectra.freqs_hz * PATCH_SECONDS) ** 2  # of a moving average over a patch
    kept[1:] *= 2.0
    variance = spectra.swing(band) @ kept.astype(np.float32) / spectra.n_times**2
    found: np.ndarray = np.sqrt(variance) / (spectra.envelope(band).mean(axis=-1) + 1e-6)
    return found


_MORE = (("more", "less"),)

VARIABILITY = ClaimKind(
    name="variability",
    bands=("alpha", "beta"),
    measure=variation,
    forms=(
        Form("{band} power over the {region} region varies {word} than {average}", _MORE),
        Form("over the {region} region, {band} power varies {word} than {average}", _MORE),
        Form("{band} power over the {region} region fluctuates {word} than {average}", _MORE),
        Form(
            "fluctuations of {band} power over the {region} region are {word} than {average}", (("larger", "smaller"),)
        ),
        Form("the {region} region shows {band} power that varies {word} than {average}", _MORE),
    ),
    notes=("varies more", "varies less"),
    mentions=(r"var(?:y|ies|iab\w+)", r"fluctuat\w+"),
)
