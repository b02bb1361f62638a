"""One file through MNE: scalp EEG in µV, its gaps and annotations, and nothing of the header's personal fields."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage.errors import InputError
from storage.readers.base import RawRecording, TrialSpan
from storage.readers.companions import assert_brainvision
from storage.readers.edf import EdfHeader, assert_rate, read_header, record_onsets
from storage.signal.caps import Cap
from storage.signal.channels import check_renames, select_eeg
from storage.signal.units import UV_PER, Unit, assert_plausible

_BREAKS = re.compile(r"(EDGE |BAD[ _])?boundary|New Segment/.*|BAD_ACQ_SKIP", re.IGNORECASE)
"""Annotations by which MNE, EEGLAB and BrainVision say that the signal was interrupted."""
_SKIPPED = "BAD_ACQ_SKIP"
_VOLTS_PER = {"V": 1.0, "n/a": 1.0, "mV": 1e-3, "µV": 1e-6, "uV": 1e-6, "nV": 1e-9}
_LIKE_VOLTS: dict[str, Unit] = {"V": "V", "n/a": "V", "mV": "mV", "µV": "uV", "uV": "uV"}


class ChannelConfig(BaseModel):
    """What a file does not say of its channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit | None = None
    """What the file's numbers are in, where its header is wrong or silent."""
    montage: Cap | None = None
    """BioSemi cap whose connectors (A1, A2, ...) the channels are named by."""
    rename: dict[str, str] = Field(default_factory=dict)
    """The file's channel name -> name of the 10-05 system, or `drop`."""

    @field_validator("rename")
    @classmethod
    def _electrodes(cls, rename: dict[str, str]) -> dict[str, str]:
        check_renames(rename)
        return rename


@dataclass(frozen=True)
class Annotation:
    """A described stretch: first sample and length in samples of the signal as read."""

    start: int
    length: int
    description: str


@dataclass(frozen=True)
class Continuous:
    """A file's EEG: (n_chans, n_times) in µV, and the stretches of it without a gap inside."""

    channels: tuple[str, ...]
    sfreq_hz: float
    signal_uv: np.ndarray
    pieces: tuple[tuple[int, int], ...]
    annotations: tuple[Annotation, ...] = ()
    bads: tuple[str, ...] = ()
    provenance: dict[str, str | float | list[str] | None] = field(default_factory=dict)

    def cut(self, trials: list[TrialSpan]) -> RawRecording:
        """Hand out the pieces together with trials in them."""
        pieces = [self.signal_uv[:, start:stop] for start, stop in self.pieces]
        return RawRecording(self.channels, self.sfreq_hz, pieces, trials, self.bads, self.provenance)


def read_file(path: Path, config: ChannelConfig | None = None) -> RawRecording:
    """Read one recording without labels, one trial per piece.

    Raises
    ------
    InputError
        As `read_continuous`.
    """
    file = read_continuous(path, config)
    spans = [
        TrialSpan(piece, 0, stop - start, trial=piece + 1, position=piece + 1, clip=piece + 1, label=None)
        for piece, (start, stop) in enumerate(file.pieces)
    ]
    return file.cut(spans)


def read_continuous(path: Path, config: ChannelConfig | None = None) -> Continuous:
    """Read one recording with MNE.

    Channels that are not EEG, by MNE's type or by name, are left out and named in the provenance. EEG channels of
    EDF and BDF are read at their own rate, whatever the rates of the others.

    Raises
    ------
    InputError
        When the file is cut off or incomplete, MNE cannot read it, no channel is a scalp electrode, EEG channels have
        different rates, samples are not finite, or amplitudes are not those of EEG.
    """
    config = config or ChannelConfig()
    assert_file(path)
    header = read_header(path)
    assert_brainvision(path)
    raw = _by_mne(path, preload=True)
    chosen = select(raw, config, str(path))
    if header is not None:
        raw = at_native_rate(path, raw, header, chosen)
    return continuous_of(raw, chosen, config, path, header)


@dataclass(frozen=True)
class Selection:
    """The scalp EEG among a file's channels: the file's names, their canonical names, and what is left out."""

    names: tuple[str, ...]
    channels: tuple[str, ...]
    dropped: tuple[str, ...]


def select(raw: Any, config: ChannelConfig, place: str) -> Selection:
    """Pick the scalp EEG channels of an MNE recording.

    Raises
    ------
    InputError
        When channels have a kind that MNE does not know, or none is a scalp electrode.
    """
    try:
        names, types = raw.ch_names, raw.get_channel_types()
    except Exception as error:  # a damaged header can hold kinds that MNE does not know
        raise unreadable(Path(place), error) from None
    rows, channels = select_eeg(names, place, types=types, montage=config.montage, rename=config.rename)
    dropped = tuple(name for row, name in enumerate(names) if row not in rows)
    return Selection(tuple(names[row] for row in rows), tuple(channels), dropped)


def continuous_of(
    raw: Any, chosen: Selection, config: ChannelConfig, path: Path, header: EdfHeader | None
) -> Continuous:
    """Take from an MNE recording what the store may know; `header` is that of EDF and BDF.

    Raises
    ------
    InputError
        When samples cannot be read or are not finite, or rate or amplitudes are not those of EEG.
    """
    import mne

    sfreq_hz, place = float(raw.info["sfreq"]), str(path)
    assert_rate(sfreq_hz, place)
    try:
        signal_uv = raw.get_data(picks=list(chosen.names)) * 1e6
    except Exception as error:  # MNE's parsers raise whatever the damage leads them to
        raise unreadable(path, error) from None
    taken = _scale(raw, chosen.names, signal_uv, config, place)
    _assert_finite(signal_uv, chosen.channels, sfreq_hz, place)
    onsets, record = (record_onsets(path, header), header.record_seconds) if header is not None else ([], 0.0)
    told = raw.annotations
    if header is not None and header.discontinuous:  # MNE drops what lies behind the end of the joined signal
        told = mne.read_annotations(path)
    notes = _annotations(raw, told, onsets, record, sfreq_hz)
    pieces = _pieces(signal_uv.shape[1], notes, _record_breaks(onsets, record, sfreq_hz))
    assert_plausible([signal_uv[:, start:stop] for start, stop in pieces], sfreq_hz, place, taken=taken)
    provenance: dict[str, str | float | list[str] | None] = {
        "reader": f"mne {mne.__version__}",
        "highpass_hz": float(raw.info["highpass"]),
        "lowpass_hz": float(raw.info["lowpass"]),
        "dropped_channels": list(chosen.dropped),
        "stated_unit": config.unit,
        "montage": config.montage,
    }
    kept = dict(zip(chosen.names, chosen.channels, strict=True))
    bads = tuple(kept[name] for name in raw.info["bads"] if name in kept)
    return Continuous(chosen.channels, sfreq_hz, signal_uv, pieces, notes, bads, provenance)


def assert_file(path: Path) -> None:
    """Refuse what is no recording at all: nothing, a folder, an empty file, a web page."""
    if not path.exists():
        raise InputError(str(path), "no such file", "Correct the path.")
    if path.is_dir():
        if path.suffix.lower() in {".mff", ".ds", ".mefd"}:
            return
        raise InputError(str(path), "is a folder, not a file", "Name the file in it.")
    with path.open("rb") as file:
        start = file.read(512).lower()
    if not start:
        raise InputError(str(path), "is empty", "Fetch the file again.")
    if b"<!doctype html" in start or b"<html" in start:
        raise InputError(str(path), "is a web page, not a recording", "Fetch the file itself.")


def _by_mne(path: Path, **options: Any) -> Any:
    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne.io.read_raw(path, verbose="error", **options)
    except Exception as error:  # MNE's parsers raise whatever the damage leads them to
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> InputError:
    """Say which file a parser gave up on, and why, without quoting the file."""
    return InputError(
        str(path), f"MNE cannot read it ({reason_of(error)})", "Fetch it again, or convert it to EDF or FIF."
    )


def reason_of(error: Exception) -> str:
    """First line of a parser's message without what it quotes: that may be a patient's name out of a header."""
    first = next(iter(str(error).splitlines()), "")
    unquoted = re.sub(r"""b?(['"]).*?\1""", "...", first)
    return re.split(r"['\"]", unquoted)[0].strip() or type(error).__name__


def at_native_rate(path: Path, raw: Any, header: EdfHeader, chosen: Selection) -> Any:
    """Read EDF or BDF again with its EEG channels only, unless all channels have one rate."""
    if len(raw.ch_names) != len(header.rates_hz):
        raise InputError(str(path), "MNE sees other channels than its header names", "Export it again.")
    rates = dict(zip(raw.ch_names, header.rates_hz, strict=True))
    by_rate = Counter(rates[name] for name in chosen.names)
    if len(by_rate) > 1:
        common = by_rate.most_common(1)[0][0]
        odd = next(name for name in chosen.names if rates[name] != common)
        raise InputError(
            str(path),
            f"EEG channels have different rates: {odd} {rates[odd]:g} Hz, most others {common:g} Hz",
            f"Leave it out: `source.rename: {{'{odd}': drop}}`.",
        )
    if set(rates.values()) == set(by_rate):
        return raw
    return _by_mne(path, preload=True, include=list(chosen.names))


def _scale(raw: Any, names: Sequence[str], signal_uv: np.ndarray, config: ChannelConfig, place: str) -> Unit | None:
    """Apply a stated unit in place; return the unit that most channels' numbers were taken to be in."""
    stated = getattr(raw, "_orig_units", None) or {}
    default = "V" if type(raw).__module__.split(".")[-2] == "fiff" else "µV"
    units = [stated.get(name, default) for name in names]
    if config.unit is None:
        return _LIKE_VOLTS.get(Counter(units).most_common(1)[0][0])
    for row, unit in enumerate(units):
        if unit not in _VOLTS_PER:
            raise InputError(place, f"its unit {unit} is none of voltage", "Leave the channel out in `source.rename`.")
        signal_uv[row] *= UV_PER[config.unit] / (_VOLTS_PER[unit] * 1e6)
    return config.unit


def _assert_finite(signal: np.ndarray, channels: Sequence[str], sfreq_hz: float, place: str) -> None:
    finite = np.isfinite(signal)
    if not finite.all():
        row, sample = (int(index) for index in np.argwhere(~finite)[0])
        raise InputError(
            place,
            f"{int((~finite).sum())} samples are NaN or infinite (first: {channels[row]} at {sample / sfreq_hz:.3f} s)",
            "Repair the file, or leave the channel out in `source.rename`.",
        )


def _annotations(raw: Any, told: Any, onsets: list[float], record: float, sfreq_hz: float) -> tuple[Annotation, ...]:
    first = float(raw.first_time)
    notes = []
    for note in told:
        onset = float(note["onset"]) - first
        if onsets:  # in a file with gaps, time goes on where samples do not
            place = max(0, int(np.searchsorted(onsets, onset + 1e-6, side="right")) - 1)
            onset = place * record + min(onset - onsets[place], record)
        start, length = round(onset * sfreq_hz), round(float(note["duration"]) * sfreq_hz)
        notes.append(Annotation(start, length, str(note["description"])))
    return tuple(sorted(notes, key=lambda note: note.start))


def _record_breaks(onsets: list[float], record: float, sfreq_hz: float) -> list[int]:
    late = [place for place in range(1, len(onsets)) if onsets[place] - onsets[place - 1] - record > 0.5 / sfreq_hz]
    return [round(place * record * sfreq_hz) for place in late]


def _pieces(n_times: int, notes: tuple[Annotation, ...], breaks: list[int]) -> tuple[tuple[int, int], ...]:
    skipped = [(note.start, note.start + note.length) for note in notes if note.description == _SKIPPED]
    points = [note.start for note in notes if _BREAKS.fullmatch(note.description)] + breaks
    edges = sorted({0, n_times, *(point for point in points if 0 < point < n_times), *(stop for _, stop in skipped)})
    pairs = [pair for pair in pairwise(edges) if pair[1] <= n_times]
    return tuple(pair for pair in pairs if not any(start <= pair[0] < stop for start, stop in skipped))
