"""Claims about bursts: how much of a band's envelope swings about once a second.

Definition: of the envelope's power from 0.25 to 4.25 swings a second, the share from 0.75 to 1.5. The envelope is the
squared band-limited signal, averaged over a region's channels. Unit: none, 0..1. Source: bursts rather than sustained
rhythms make up beta and gamma in single trials, Jones (2016), doi 10.1016/j.conb.2016.06.010; van Ede et al. (2018),
doi 10.1016/j.tins.2018.04.004. The rate and this share of it are ours.
"""

import numpy as np

from e2llm_core.claims.kind import ClaimKind
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import Form

BURST_HZ = (0.75, 1.5)
ENVELOPE_HZ = (0.25, 4.25)


def burst_share(spectra: Spectra, band: str) -> np.ndarray:
    """Share of the envelope's slow power around 1 Hz (batch, regions)."""
    swing = spectra.swing(band)
    slow = (spectra.freqs_hz >= ENVELOPE_HZ[0]) & (spectra.freqs_hz < ENVELOPE_HZ[1])
    once = (spectra.freqs_hz >= BURST_HZ[0]) & (spectra.freqs_hz < BURST_HZ[1])
    share: np.ndarray = swing[..., once].sum(axis=-1) / (swing[..., slow].sum(axis=-1) + 1e-9)
    return share


_MORE, _STRONGER = (("more", "less"),), (("stronger", "weaker"),)

BURSTS = ClaimKind(
    name="bursts",
    bands=("beta", "gamma"),
    measure=burst_share,
    forms=(
        Form("{band} activity over the {region} region bursts {word} than {average}", _MORE, session="average"),
        Form("over the {region} region, {band} activity bursts {word} than {average}", _MORE),
        Form("{band} bursts over the {region} region are {word} than {average}", _STRONGER),
        Form("the {region} region shows {word} {band} bursts than {average}", _STRONGER),
        Form("{band} activity over the {region} region is {word} than {average}", (("burstier", "steadier"),)),
    ),
    notes=("bursts more", "bursts less"),
    mentions=(r"activit(?:y|ies)", r"burst\w*"),
)
