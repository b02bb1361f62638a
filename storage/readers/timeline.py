"""When samples were recorded: pieces of signal without a break, and where a stretch of time lies in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_TOLERANCE = 1e-3
_FLOAT32 = 2.0**-23


@dataclass(frozen=True)
class Piece:
    """A stretch of signal without a break.

    Attributes
    ----------
    start, stop : int
        First sample, and the one behind the last, in the file's samples as they follow each other.
    onset : float
        Recording time of the first sample: seconds from the first sample of the file, pauses counted.
    seconds : float
        How long it took to record.
    """

    start: int
    stop: int
    onset: float
    seconds: float

    @property
    def num_samples(self) -> int:
        """Samples in it."""
        return self.stop - self.start

    @property
    def end(self) -> float:
        """Recording time at which it ends."""
        return self.onset + self.seconds

    def sample(self, second: float) -> int:
        """Sample of the piece (from 0) nearest to a recording time, which may lie outside of it."""
        return round((second - self.onset) * self.num_samples / self.seconds)

    def part(self, start: int, stop: int) -> "Piece":
        """Samples `start`..`stop` of the file, which lie in this piece."""
        period = self.seconds / self.num_samples
        return Piece(start, stop, self.onset + (start - self.start) * period, (stop - start) * period)


def whole(num_samples: int, sfreq_hz: float) -> tuple[Piece, ...]:
    """All samples as one piece."""
    return (Piece(0, num_samples, 0.0, num_samples / sfreq_hz),)


def cut(pieces: Sequence[Piece], breaks: Sequence[int], left_out: Sequence[tuple[int, int]] = ()) -> tuple[Piece, ...]:
    """Cut pieces at samples of the file, and leave stretches of samples out."""
    points = {*breaks, *(edge for stretch in left_out for edge in stretch)}
    parts = []
    for piece in pieces:
        edges = [piece.start, *sorted(point for point in points if piece.start < point < piece.stop), piece.stop]
        parts += [
            piece.part(start, stop)
            for start, stop in pairwise(edges)
            if not any(first <= start < last for first, last in left_out)
        ]
    return tuple(parts)


def break_at(position: float) -> int:
    """First sample behind a break that a file places at a position in samples, from 0.

    EEGLAB places boundaries between two samples (1000.5 is before sample 1001); FIF keeps times as float32, so that
    a position is as sharp as that.
    """
    nearest = round(position)
    sharp = min(_TOLERANCE + abs(position) * _FLOAT32, 0.45)
    return nearest if abs(position - nearest) <= sharp else math.ceil(position)
