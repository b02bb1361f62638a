"""Claims about the theta/beta ratio.

Definition: log theta power minus log beta power of a region's channels. Unit: difference of logs. Source: Putman et al.
(2010, emotion and its regulation), doi 10.1016/j.biopsycho.2009.10.008; Arns et al. (2013, attention), doi
10.1177/1087054712460087.
"""

import numpy as np

from e2llm_core.claims.kind import ClaimKind
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form


def theta_beta(spectra: Spectra, band: str) -> np.ndarray:
    """Theta minus beta log power (batch, regions)."""
    difference: np.ndarray = spectra.log_power("theta") - spectra.log_power("beta")
    return difference


THETA_BETA = ClaimKind(
    name="theta/beta",
    measure=theta_beta,
    forms=(
        Form("the theta/beta ratio over the {region} region is {word} {average}", (("above", "below"),)),
        Form("over the {region} region, the theta/beta ratio is {word} {average}", (("above", "below"),)),
        Form(
            "the theta/beta ratio over the {region} region is {word} than {average}",
            (("higher", "lower"), ("larger", "smaller")),
        ),
        Form("theta relative to beta is {word} over the {region} region than {average}", (("stronger", "weaker"),)),
        Form("over the {region} region, theta outweighs beta {word} than {average}", (("more", "less"),)),
    ),
    notes=("above", "below"),
    mentions=("ratios?",),
    noted="theta/beta",
)
