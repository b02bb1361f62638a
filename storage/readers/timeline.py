"""Recording times of samples: pieces of signal without a break, and conversion between times and samples."""

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
        First sample, and the one after the last, counted over the file's samples without pauses.
    onset : float
        Recording time of the first sample: seconds from the first sample of the file, including pauses.
    seconds : float
        Duration of the recording of this piece.
    """

    start: int
    stop: int
    onset: float
    seconds: float

    @property
    def num_samples(self) -> int:
        """Number of samples in the piece."""
        return self.stop - self.start

    @property
    def end(self) -> float:
        """Recording time at which the piece ends, in seconds."""
        return self.onset + self.seconds

    def sample(self, second: float) -> int:
        """Sample of the piece (from 0) nearest to a recording time, which may lie outside it."""
        return round((second - self.onset) * self.num_samples / self.seconds)

    def part(self, start: int, stop: int) -> "Piece":
        """The part of this piece from sample `start` to `stop` of the file."""
        period = self.seconds / self.num_samples
        return Piece(start, stop, self.onset + (start - self.start) * period, (stop - start) * period)


def whole(num_samples: int, sfreq_hz: float) -> tuple[Piece, ...]:
    """All samples as one piece."""
    return (Piece(0, num_samples, 0.0, num_samples / sfreq_hz),)


def cut(pieces: Sequence[Piece], breaks: Sequence[int], left_out: Sequence[tuple[int, int]] = ()) -> tuple[Piece, ...]:
    """Cut pieces at the samples `breaks` of the file, and omit the stretches `left_out`, (first, stop) in samples."""
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
    """First sample after a break whose position the file gives in samples, from 0.

    EEGLAB places boundaries between two samples (1000.5 is before sample 1001); FIF stores times as float32, which
    limits the precision of a position.
    """
    nearest = round(position)
    sharp = min(_TOLERANCE + abs(position) * _FLOAT32, 0.45)
    return nearest if abs(position - nearest) <= sharp else math.ceil(position)
