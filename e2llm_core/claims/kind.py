"""A kind of claim: what is measured in a window, how that is said, and how it is read back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from e2llm_core.claims.montage import Montage
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.wording import NOTED, Form, Reference, Strength, degree, pick

NO_BAND, NO_REGION = "", ""
"""Of a quantity that has none."""


@dataclass(frozen=True)
class Quantity:
    """One number per window, of a kind of claim; band and region are empty where the kind has none."""

    kind: str
    band: str
    region: str

    @property
    def name(self) -> str:
        """Kind, band and region in words, as files name it."""
        return " ".join(part for part in (self.kind, self.band, self.region) if part)


def every_region(montage: Montage) -> tuple[str, ...]:
    """Measured in each region that has channels."""
    return montage.regions


@dataclass(frozen=True)
class ClaimKind:
    """A row of the table of claims.

    Attributes
    ----------
    name : str
        As files and quantities name the kind.
    measure : callable
        From `Spectra` and the name of a band to one number per window and site (batch, sites).
    forms : tuple of Form
        How a claim is said; the first one is canonical. A form names band and region, but a band or region that is the
        kind's only one.
    notes : tuple of str
        Direction in note form, above and below the reference.
    mentions : tuple of str
        Regular expressions of words by which a sentence in another form speaks of this kind.
    bands : tuple of str
        Bands that it is measured in; one empty name for a kind without.
    sites : callable
        Regions that it is measured in, given the montage; one empty name for a quantity of no single region, nothing
        where the montage lacks the channels.
    noted : str
        The kind's name in note form, before band and region; empty where they suffice.
    """

    name: str
    measure: Callable[[Spectra, str], np.ndarray]
    forms: tuple[Form, ...]
    notes: tuple[str, str]
    mentions: tuple[str, ...]
    bands: tuple[str, ...] = (NO_BAND,)
    sites: Callable[[Montage], tuple[str, ...]] = every_region
    noted: str = ""

    def quantities(self, montage: Montage) -> tuple[Quantity, ...]:
        """What is measured with these channels, in the order of the measurements."""
        return tuple(Quantity(self.name, band, site) for band in self.bands for site in self.sites(montage))

    def measurements(self, spectra: Spectra) -> list[np.ndarray]:
        """Measurements (batch, sites) for each band; none where the montage lacks the channels."""
        return [self.measure(spectra, band) for band in self.bands] if self.sites(spectra.montage) else []

    def say(
        self,
        quantity: Quantity,
        above: bool,
        strength: Strength,
        reference: Reference,
        rng: np.random.Generator | None = None,
    ) -> str:
        """The claim as a sentence: the canonical one, or any."""
        return pick(self.forms, rng).say(quantity.band, quantity.region, above, strength, reference, rng)

    def note(self, quantity: Quantity, above: bool, strength: Strength, reference: Reference) -> str:
        """The claim in note form."""
        word = self.note_words[not above]
        return f"{self.note_address(quantity)} {degree(strength, word)}{NOTED[reference]}"

    def note_address(self, quantity: Quantity) -> str:
        """What a note is about: the words before degree and direction."""
        verb = self.notes[0].rpartition(" ")[0]
        return " ".join(part for part in (self.noted, quantity.band, quantity.region, verb) if part)

    @property
    def note_words(self) -> tuple[str, str]:
        """The words of direction in a note, above and below the reference."""
        above, below = (note.rpartition(" ")[2] for note in self.notes)
        return above, below
