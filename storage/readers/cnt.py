"""Neuroscan recordings of the SEED family: the 62 electrodes of a complete .cnt file, and its triggers."""

import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from storage.errors import InputError
from storage.readers.clips import Provenance
from storage.readers.mne_file import reason_of
from storage.signal import SEED_CHANNELS
from storage.signal.channels import select_eeg
from storage.signal.units import assert_plausible

SFREQ_HZ = 1000.0
_EXCERPTS = 12
_EXCERPT_SECONDS = 10


@dataclass(frozen=True)
class CntRecording:
    """Contents of a .cnt file.

    Attributes
    ----------
    signal_uv : np.ndarray
        (62, n_times) in µV, in SEED's channel order.
    bads : tuple of str
        Electrodes that the header marks as bad.
    events : tuple of (float, str)
        Time in seconds from the start, and description: a trigger's number, or MNE's name for a key press.
    started : datetime or None
        Start of the recording by its computer's clock. Personal data: must never be stored.
    provenance : dict
        Reader, amplifier filter settings, and channels left out.
    """

    signal_uv: np.ndarray
    bads: tuple[str, ...]
    events: tuple[tuple[float, str], ...]
    started: datetime | None
    provenance: Provenance


def read_cnt(path: Path) -> CntRecording:
    """Read a recording with MNE; channels other than the 62 electrodes (M1, M2, ECG, HEO, VEO, ...) are left out.

    Raises
    ------
    InputError
        When the file is missing, truncated or not a Neuroscan file, an electrode is missing, the sampling rate is not
        1000 Hz, or amplitudes are implausible for EEG.
    """
    import mne

    if not path.exists():
        raise InputError(str(path), "no such file", "Correct the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            raw = mne.io.read_raw_cnt(path, verbose="error")
        rows, names = select_eeg(raw.ch_names, str(path))
        order = _order(path, names)
        signal = raw.get_data(picks=[rows[index] for index in order], verbose="error")
    except InputError:
        raise
    except Exception as error:  # MNE's parser can raise almost any error on a damaged file
        raise InputError(str(path), f"MNE cannot read it ({reason_of(error)})", "Fetch the file again.") from None
    if raw.info["sfreq"] != SFREQ_HZ:
        raise InputError(str(path), f"is sampled at {raw.info['sfreq']:g} Hz, expected 1000", "Use the original file.")
    signal *= 1e6
    assert_plausible(_excerpts(signal), SFREQ_HZ, str(path))
    kept = set(rows)
    bads = {names[rows.index(row)] for row in kept if raw.ch_names[row] in raw.info["bads"]}
    moment = raw.info["meas_date"]
    return CntRecording(
        signal_uv=signal,
        bads=tuple(channel for channel in SEED_CHANNELS if channel in bads),
        events=tuple(zip(map(float, raw.annotations.onset), map(str, raw.annotations.description), strict=True)),
        started=None if moment is None else datetime.fromtimestamp(moment.timestamp()),
        provenance={
            "reader": f"mne {mne.__version__}",
            "device": "ESI NeuroScan",
            "highpass_hz": float(raw.info["highpass"]),
            "lowpass_hz": float(raw.info["lowpass"]),
            "dropped_channels": [name for row, name in enumerate(raw.ch_names) if row not in kept],
        },
    )


def cnt_files(folder: Path, pattern: str) -> dict[tuple[int, int], Path]:
    """Find the .cnt files of a folder by subject and session; a repaired file replaces its original.

    Raises
    ------
    InputError
        When a file name does not match, or two files belong to one session.
    """
    found: dict[tuple[int, int], tuple[bool, Path]] = {}
    for path in sorted(folder.glob("*.cnt")):
        match = re.fullmatch(pattern, path.stem)
        if match is None:
            raise InputError(str(path), "its name does not give subject, session and date", "Move it elsewhere.")
        groups = match.groupdict()
        place, repaired = (int(groups["subject"]), int(groups["session"])), bool(groups.get("repaired"))
        before = found.get(place)
        if before is not None and before[0] == repaired:
            raise InputError(
                str(path), f"is a second file of subject {place[0]}, session {place[1]}", "Move one of them away."
            )
        if before is None or repaired:
            found[place] = (repaired, path)
    return {place: path for place, (_, path) in found.items()}


def _excerpts(signal: np.ndarray) -> list[np.ndarray]:
    """Views of a few stretches spread over a recording that is too long to check in full."""
    length = int(_EXCERPT_SECONDS * SFREQ_HZ)
    starts = np.linspace(0, max(0, signal.shape[1] - length), _EXCERPTS).astype(int)
    return [signal[:, start : start + length] for start in starts]


def _order(path: Path, names: list[str]) -> list[int]:
    """Index in `names` of each of SEED's electrodes."""
    if missing := [channel for channel in SEED_CHANNELS if channel not in names]:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise InputError(str(path), f"lacks {len(missing)} of 62 electrodes: {shown}", "Use the original file.")
    return [names.index(channel) for channel in SEED_CHANNELS]
