"""EDF and BDF as far as MNE passes over it in silence: cut-off files, gaps between records, mixed sampling rates."""

import math
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError

_FIXED_BYTES = 256
_BYTES_PER_SIGNAL = 256
_BEFORE_SAMPLE_COUNTS = 216
"""Bytes per signal of the header fields that come before the number of samples in a record."""
_BYTES_PER_SAMPLE = {".edf": 2, ".bdf": 3}
MIN_RATE_HZ, MAX_RATE_HZ = 1, 100_000
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class EdfHeader:
    """The technical fields of a header; the personal ones are not read.

    `labels` and `samples` (per record) are of every signal in the file's order, annotations included.
    """

    labels: tuple[str, ...]
    samples: tuple[int, ...]
    num_records: int
    record_seconds: float
    discontinuous: bool
    bytes_per_sample: int

    @property
    def rates_hz(self) -> list[float]:
        """Sampling rate of each ordinary signal."""
        pairs = zip(self.labels, self.samples, strict=True)
        return [count / self.record_seconds for label, count in pairs if label not in _ANNOTATIONS]

    @property
    def header_bytes(self) -> int:
        """Where the first record starts."""
        return _FIXED_BYTES + _BYTES_PER_SIGNAL * len(self.labels)


def read_header(path: Path) -> EdfHeader | None:
    """Read the header of a whole EDF or BDF file; None for files of other formats.

    Raises
    ------
    InputError
        When the header is not one of EDF or BDF, records are missing at the end, there is no ordinary signal, or no
        EEG could have these sampling rates.
    """
    width = _BYTES_PER_SAMPLE.get(path.suffix.lower())
    if width is None:
        return None
    with path.open("rb") as file:
        fixed = file.read(_FIXED_BYTES)
        if fixed.lstrip()[:1] == b"<":
            raise InputError(str(path), "is a web page, not EDF or BDF", "Fetch the file itself.")
        try:
            num_records, record_seconds, num_signals = int(fixed[236:244]), float(fixed[244:252]), int(fixed[252:256])
            fields = file.read(_BYTES_PER_SIGNAL * num_signals)
            labels = tuple(
                fields[16 * signal : 16 * signal + 16].decode("latin1").strip() for signal in range(num_signals)
            )
            counts = fields[_BEFORE_SAMPLE_COUNTS * num_signals :]
            samples = tuple(int(counts[8 * signal : 8 * signal + 8]) for signal in range(num_signals))
        except ValueError:
            raise InputError(
                str(path), "its header is not one of EDF or BDF", "Fetch the file again."
            ) from None  # the cause quotes the header, names and all
    header = EdfHeader(labels, samples, num_records, record_seconds, fixed[196:197] == b"D", width)
    _assert_whole(path, header)
    if all(label in _ANNOTATIONS for label in labels):
        raise InputError(str(path), "holds annotations only, no signal", "Name the file with the signal.")
    if not 0 < record_seconds < math.inf:
        raise InputError(str(path), "its header states no record duration", "Fetch the file again.")
    if min(header.rates_hz) <= 0:
        raise InputError(str(path), "its header states a signal without samples", "Export it again.")
    assert_rate(max(header.rates_hz), str(path))  # MNE brings all signals to the highest rate
    return header


def assert_rate(sfreq_hz: float, place: str) -> None:
    """Raise `InputError` at a sampling rate that no EEG has."""
    if not MIN_RATE_HZ <= sfreq_hz <= MAX_RATE_HZ:
        raise InputError(
            place,
            f"its sampling rate is {sfreq_hz:g} Hz, outside {MIN_RATE_HZ:,}..{MAX_RATE_HZ:,} Hz",
            "Check how it was exported.",
        )


def _assert_whole(path: Path, header: EdfHeader) -> None:
    expected = header.header_bytes + header.num_records * sum(header.samples) * header.bytes_per_sample
    if header.num_records < 0:
        raise InputError(
            str(path), "its header leaves the number of records open: was it recorded to the end?", "Export it again."
        )
    if (size := path.stat().st_size) < expected:
        raise InputError(str(path), f"is cut off: {size:,} of {expected:,} bytes are there", "Fetch the file again.")


def record_onsets(path: Path, header: EdfHeader) -> list[float]:
    """Onset in seconds of each record; in a continuous file they follow each other.

    Raises
    ------
    InputError
        When a discontinuous file (EDF+D) does not say when a record begins.
    """
    if not header.discontinuous:
        return [record * header.record_seconds for record in range(header.num_records)]
    timed = [place for place, label in enumerate(header.labels) if label in _ANNOTATIONS]
    if not timed:
        raise InputError(str(path), "is discontinuous (EDF+D) without onsets of its records", "Export it as EDF+C.")
    before = sum(header.samples[: timed[0]]) * header.bytes_per_sample
    record_bytes = sum(header.samples) * header.bytes_per_sample
    onsets = []
    with path.open("rb") as file:
        for record in range(header.num_records):
            file.seek(header.header_bytes + record * record_bytes + before)
            onset = file.read(header.samples[timed[0]] * header.bytes_per_sample).split(b"\x14", 1)[0]
            try:
                onsets.append(float(onset))
            except ValueError:
                raise InputError(
                    str(path), f"record {record + 1} does not say when it begins", "Export it as EDF+C."
                ) from None
    return [onset - onsets[0] for onset in onsets]
