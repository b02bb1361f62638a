"""A kind of claim: what is measured in a window, how that is said, and how it is read back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from storage.signal.bands import BANDS


@dataclass(frozen=True)
class Quantity:
    """One number per window, of a kind of claim, in a band and a region."""

    kind: str
    band: str
    region: str

    @property
    def name(self) -> str:
        """Kind, band and region in words, as files name it."""
        return f"{self.kind} {self.band} {self.region}"


@dataclass(frozen=True)
class Spectra:
    """Session-whitened windows in the frequency domain.

    Attributes
    ----------
    spectrum : np.ndarray
        complex (batch, n_chans, frequencies), as from ``np.fft.rfft``.
    freqs_hz : np.ndarray
        (frequencies,).
    n_times : int
        Samples per window.
    average : np.ndarray
        float32 (regions, n_chans): weights of the mean over a region's channels.
    """

    spectrum: np.ndarray
    freqs_hz: np.ndarray
    n_times: int
    average: np.ndarray

    @cached_property
    def power(self) -> np.ndarray:
        """Squared magnitude per sample (batch, n_chans, frequencies)."""
        power: np.ndarray = (np.abs(self.spectrum) ** 2) / self.n_times
        return power

    def inside(self, band: str) -> np.ndarray:
        """Mark the frequencies of a band."""
        low, high = BANDS[band]
        return (self.freqs_hz >= low) & (self.freqs_hz < high)


@dataclass(frozen=True)
class ClaimKind:
    """A row of the table of claims.

    Attributes
    ----------
    name : str
        As files and quantities name the kind.
    bands : tuple of str
        Bands that it is measured in, in every region.
    measure : callable
        From `Spectra` and the name of a band to one number per window and region (batch, regions).
    sentence : str
        Template with ``{band}``, ``{region}`` and ``{word}``, of plain words and without a full stop.
    words : tuple of str
        Values of ``{word}`` above and below the session's average.
    notes : tuple of str
        The same in note form, after band and region.
    mentions : tuple of str
        Regular expressions of words by which a sentence in another form speaks of this kind.
    """

    name: str
    bands: tuple[str, ...]
    measure: Callable[[Spectra, str], np.ndarray]
    sentence: str
    words: tuple[str, str]
    notes: tuple[str, str]
    mentions: tuple[str, ...]

    def quantities(self, regions: tuple[str, ...]) -> tuple[Quantity, ...]:
        """What is measured in these regions, in the order of the measurements."""
        return tuple(Quantity(self.name, band, region) for band in self.bands for region in regions)

    def say(self, quantity: Quantity, above: bool) -> str:
        """The claim as a sentence."""
        words = {"band": quantity.band.capitalize(), "region": quantity.region, "word": self.words[not above]}
        return f"{self.sentence.format(**words)}."

    def note(self, quantity: Quantity, above: bool) -> str:
        """The claim in note form."""
        return f"{quantity.band} {quantity.region} {self.notes[not above]}"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        groups = {"band": r"(\w+)", "region": r"([\w ]+?)", "word": f"({'|'.join(self.words)})"}
        return re.compile(self.sentence.format(**groups), re.IGNORECASE)

    def read(self, text: str) -> list[tuple[Quantity, bool]]:
        """Find this kind's claims in a text: quantities, existing or not, and whether each is said to be above."""
        return [
            (Quantity(self.name, band.lower(), region.lower()), word.lower() == self.words[0])
            for band, region, word in self._pattern.findall(text)
        ]

    def cut(self, text: str) -> str:
        """Leave this kind's claims out of a text."""
        return self._pattern.sub("", text)
