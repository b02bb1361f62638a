"""Claims about frontal alpha asymmetry.

Definition: log alpha power of the right frontal region minus that of the left frontal one; above 0 where the right side
has more. Unit: difference of logs. Source: Davidson et al. (1990), doi 10.1037/0022-3514.58.2.330; Coan & Allen (2004),
doi 10.1016/j.biopsycho.2004.03.002; scoring: Smith et al. (2017), doi 10.1016/j.ijpsycho.2016.11.005. How much it says
about emotion in a single person is disputed.
"""

import numpy as np

from e2llm_core.claims.kind import NO_REGION, ClaimKind
from e2llm_core.claims.montage import Montage
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form

LEFT, RIGHT = "left frontal", "right frontal"


def both_sides(montage: Montage) -> tuple[str, ...]:
    """One quantity, of both frontal regions together."""
    return (NO_REGION,) if {LEFT, RIGHT} <= set(montage.regions) else ()


def asymmetry(spectra: Spectra, band: str) -> np.ndarray:
    """Right minus left log power (batch, 1)."""
    power, regions = spectra.log_power(band), spectra.montage.regions
    difference: np.ndarray = power[:, [regions.index(RIGHT)]] - power[:, [regions.index(LEFT)]]
    return difference


ASYMMETRY = ClaimKind(
    name="asymmetry",
    bands=("alpha",),
    sites=both_sides,
    measure=asymmetry,
    forms=(
        Form("frontal alpha asymmetry is {word} {average}", (("above", "below"),)),
        Form("frontal alpha asymmetry is {word} than {average}", (("higher", "lower"),)),
        Form("frontal alpha leans {word} to the right than {average}", (("more", "less"),)),
        Form("the right frontal side has {word} alpha relative to the left than {average}", (("more", "less"),)),
        Form("relative to the left, right frontal alpha is {word} than {average}", (("stronger", "weaker"),)),
    ),
    notes=("above", "below"),
    mentions=(r"asymmetr\w*",),
    noted="asymmetry",
)
