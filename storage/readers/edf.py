"""EDF and BDF: header and samples, read strictly by the specification; `edf_times` reads times and annotations.

Specification: https://www.edfplus.info/specs/edf.html and edfplus.html. MNE silently accepts headers with wrong ranges,
units or record counts.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storage.errors import InputError

_FIXED_BYTES = 256
_BYTES_PER_SIGNAL = 256
_UNIT, _RANGES, _SAMPLES = 96, 104, 216
"""Header bytes per signal that precede the unit, the four limits, and the number of samples in a record."""
_BYTES_PER_SAMPLE = {".edf": 2, ".bdf": 3}
_BDF_TRIGGERS = 0xFFFF
"""Bits of a BioSemi Status channel that hold triggers; the amplifier uses the others itself."""
MIN_RATE_HZ, MAX_RATE_HZ = 1, 100_000
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class EdfHeader:
    """The technical fields of a header; the personal ones are not read.

    `labels`, `samples` (per record), `units` and `limits` (physical minimum and maximum, digital minimum and maximum)
    list every signal in the file's order, including annotations. `num_records` is the number of records in the file;
    `remark` notes where the header states a different one.
    """

    labels: tuple[str, ...]
    samples: tuple[int, ...]
    num_records: int
    record_seconds: float
    discontinuous: bool
    bytes_per_sample: int
    units: tuple[str, ...]
    limits: tuple[tuple[float, float, float, float], ...]
    remark: str | None = None

    @property
    def timed(self) -> list[int]:
        """Indices of the signals that hold annotations."""
        return [place for place, label in enumerate(self.labels) if label in _ANNOTATIONS]

    @property
    def ordinary(self) -> list[int]:
        """Indices of the signals that do not hold annotations."""
        return [place for place, label in enumerate(self.labels) if label not in _ANNOTATIONS]

    @property
    def rates_hz(self) -> list[float]:
        """Sampling rate of each ordinary signal in Hz."""
        return [self.samples[place] / self.record_seconds for place in self.ordinary]

    @property
    def header_bytes(self) -> int:
        """Length of the header, in bytes: the first record starts there."""
        return _FIXED_BYTES + _BYTES_PER_SIGNAL * len(self.labels)

    @property
    def record_bytes(self) -> int:
        """Length of a record, in bytes."""
        return sum(self.samples) * self.bytes_per_sample


def read_header(path: Path) -> EdfHeader | None:
    """Read the header of a complete EDF or BDF file; None for files of other formats.

    If the header states fewer records than the file holds, or leaves their number open, the file's length overrules
    it, provided that it is a whole number of records.

    Raises
    ------
    InputError
        When the header is not an EDF or BDF header, records are missing at the end, there is no ordinary signal, or
        the sampling rates are impossible for EEG.
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
            labels = tuple(word.decode("latin1").strip() for word in _field(fields, 0, 16, num_signals))
            units = tuple(text_of(word).strip() for word in _field(fields, _UNIT, 8, num_signals))
            ranges = [_field(fields, _RANGES + 8 * place, 8, num_signals) for place in range(4)]
            limits = tuple(zip(*([_limit(word) for word in column] for column in ranges), strict=True))
            samples = tuple(int(word) for word in _field(fields, _SAMPLES, 8, num_signals))
        except ValueError:
            raise InputError(
                str(path), "does not start with an EDF or BDF header", "Fetch the file again."
            ) from None  # the cause quotes the header, names and all
    discontinuous = fixed[196:197] == b"D"
    header = EdfHeader(labels, samples, num_records, record_seconds, discontinuous, width, units, limits)
    if not header.ordinary:
        raise InputError(str(path), "holds annotations but no signal", "Name the file with the signal.")
    if not 0 < record_seconds < math.inf:
        raise InputError(str(path), "its header states no valid record duration", "Fetch the file again.")
    if min(header.rates_hz) <= 0:
        raise InputError(str(path), "its header declares a signal without samples", "Export it again.")
    header = _counted(path, header)
    assert_rate(max(header.rates_hz), str(path))
    return header


def _field(fields: bytes, before: int, width: int, num_signals: int) -> list[bytes]:
    start = before * num_signals
    return [fields[start + width * signal : start + width * (signal + 1)] for signal in range(num_signals)]


def _limit(word: bytes) -> float:
    """Parse one limit of a range; some writers leave a null byte or a decimal comma in it."""
    return float(word.split(b"\0")[0].replace(b",", b"."))


def text_of(content: bytes) -> str:
    """Decode text that should be ASCII or UTF-8 but often is Latin-1."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin1")


def assert_rate(sfreq_hz: float, place: str) -> None:
    """Raise `InputError` for a sampling rate that is impossible for EEG."""
    if not MIN_RATE_HZ <= sfreq_hz <= MAX_RATE_HZ:
        raise InputError(
            place,
            f"its sampling rate is {sfreq_hz:g} Hz, outside {MIN_RATE_HZ:,}..{MAX_RATE_HZ:,} Hz",
            "Check how it was exported.",
        )


def _counted(path: Path, header: EdfHeader) -> EdfHeader:
    """Check the stated number of records against the file's length, and correct it if possible."""
    size, stated = path.stat().st_size, header.num_records
    expected = header.header_bytes + max(0, stated) * header.record_bytes
    held, rest = divmod(max(0, size - header.header_bytes), header.record_bytes)
    if size < expected or not held:
        problem = f"is truncated: it holds {size:,} of {expected:,} bytes, {held:,} of {stated:,} records"
        raise InputError(str(path), problem, "Fetch the file again.")
    if held == stated:
        left = f"{rest:,} bytes after the last record are left out"
        return replace(header, remark=left) if rest else header
    words = "leaves the number of records open" if stated < 0 else f"counts {stated:,} records"
    if rest:
        raise InputError(
            str(path),
            f"its header {words}, but it holds {held:,} and part of another: was the recording interrupted?",
            "Fetch it again, or repair it with the recording software.",
        )
    return replace(header, num_records=held, remark=f"the header {words}, the file holds {held:,}: all are read")


def assert_ranges(header: EdfHeader, rows: list[int], place: str) -> None:
    """Refuse signals (given by index among the ordinary ones) whose scale is undefined.

    Raises
    ------
    InputError
        When a physical or digital minimum equals its maximum, digital limits are reversed, or a limit is not finite,
        naming the first such signal.
    """
    for row in rows:
        signal = header.ordinary[row]
        low, high, first, last = header.limits[signal]
        name = header.labels[signal]
        problem = None
        if not all(map(math.isfinite, (low, high, first, last))):
            problem = f"channel {name} has limits that are not finite numbers"
        elif first >= last:
            problem = f"channel {name} has the digital minimum {first:g} and maximum {last:g}"
        elif low == high:
            problem = f"channel {name} has the physical minimum and maximum {low:g}"
        if problem:
            raise InputError(
                place,
                f"{problem}, so its scale is undefined",
                f"Export it again, or leave the channel out: `source.rename: {{'{name}': drop}}`.",
            )


def read_samples(path: Path, header: EdfHeader, rows: list[int], *, digital: bool = False) -> np.ndarray:
    """Read signals that share one sampling rate.

    Parameters
    ----------
    path, header
        The file and its header.
    rows : list of int
        Indices among the ordinary signals.
    digital : bool
        Return the stored integers instead of values in the unit that the header states.

    Returns
    -------
    np.ndarray
        float64 (rows, n_times).
    """
    width, per_record = header.bytes_per_sample, sum(header.samples)
    shape = (header.num_records, per_record) if width == 2 else (header.num_records, per_record, width)
    kind = "<i2" if width == 2 else "u1"
    records = np.memmap(path, dtype=kind, mode="r", offset=header.header_bytes, shape=shape)
    starts = np.cumsum([0, *header.samples])
    signals = [header.ordinary[row] for row in rows]
    out = np.empty((len(rows), header.num_records * header.samples[signals[0]]))
    for place, signal in enumerate(signals):
        cell = np.asarray(records[:, starts[signal] : starts[signal + 1]])
        if width == 3:
            wide = cell.astype(np.int32)
            cell = (
                (wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16) << 8 >> 8
            )  # shift up and back down to extend the sign bit
        out[place] = cell.reshape(-1)
        if not digital:
            low, high, first, last = header.limits[signal]
            out[place] = (out[place] - first) * ((high - low) / (last - first)) + low
    return out


def triggers(path: Path, header: EdfHeader, row: int) -> tuple[np.ndarray, float]:
    """Trigger values of a stimulus channel, int64 (n_times,), and its sampling rate in Hz."""
    values = read_samples(path, header, [row], digital=True)[0].astype(np.int64)
    return (values & _BDF_TRIGGERS if header.bytes_per_sample == 3 else values), header.rates_hz[row]
