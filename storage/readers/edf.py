"""EDF and BDF: is the file as long as its header says? MNE shortens a cut-off recording without a word."""

from pathlib import Path

from storage.errors import InputError

_FIXED_BYTES = 256
_BYTES_PER_SIGNAL = 256
_BEFORE_SAMPLE_COUNTS = 216
"""Bytes per signal of the header fields that come before the number of samples in a record."""
_BYTES_PER_SAMPLE = {".edf": 2, ".bdf": 3}


def assert_whole(path: Path) -> None:
    """Compare an EDF or BDF file's size with its header; files of other formats pass.

    Raises
    ------
    InputError
        When the header is not one of EDF or records are missing at the end.
    """
    width = _BYTES_PER_SAMPLE.get(path.suffix.lower())
    if width is None:
        return
    with path.open("rb") as file:
        fixed = file.read(_FIXED_BYTES)
        try:
            num_records, num_signals = int(fixed[236:244]), int(fixed[252:256])
            fields = file.read(_BYTES_PER_SIGNAL * num_signals)[_BEFORE_SAMPLE_COUNTS * num_signals :]
            samples = sum(int(fields[8 * signal : 8 * signal + 8]) for signal in range(num_signals))
        except ValueError as error:
            raise InputError(str(path), "its header is not one of EDF or BDF", "Fetch the file again.") from error
    expected = _FIXED_BYTES + _BYTES_PER_SIGNAL * num_signals + num_records * samples * width
    if (size := path.stat().st_size) < expected:
        raise InputError(str(path), f"is cut off: {size:,} of {expected:,} bytes are there", "Fetch the file again.")
