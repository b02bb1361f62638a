"""Claims about band power.

Definition: the logarithm of the mean power of a region's channels in a band. Unit: log of squared units of the signal
(µV², or none where it is whitened). Source: the field's standard measure, e.g. Zheng & Lu (2015), doi
10.1109/TAMD.2015.2431497; regions and emotion: Alarcão & Fonseca (2019), doi 10.1109/TAFFC.2017.2714671.
"""

from e2llm_core.claims.kind import ClaimKind
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form
from storage.signal.bands import BANDS

_PLACED, _COMPARED, _COUNTED = (("above", "below"),), (("higher", "lower"), ("stronger", "weaker")), (("more", "less"),)

POWER = ClaimKind(
    name="power",
    bands=tuple(BANDS),
    measure=Spectra.log_power,
    forms=(
        Form("{band} power over the {region} region is {word} {average}", _PLACED),
        Form("over the {region} region, {band} power is {word} {average}", _PLACED),
        Form("{band} power over the {region} region is {word} than {average}", _COMPARED),
        Form("over the {region} region, {band} power is {word} than {average}", _COMPARED),
        Form("the {region} region shows {word} {band} power than {average}", _COUNTED),
        Form("there is {word} {band} power over the {region} region than {average}", _COUNTED),
    ),
    notes=("above", "below"),
    mentions=("powers?",),
)
