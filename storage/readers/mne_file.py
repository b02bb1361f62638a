"""Reading one file with MNE: scalp EEG in µV, gaps and annotations, without the header's personal fields."""

import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage.errors import InputError
from storage.readers import edf, edf_times, mff
from storage.readers.base import RawRecording, TrialSpan, assert_there
from storage.readers.cnt_header import sample_format
from storage.readers.companions import FOLDERS, assert_brainvision, assert_header, brainvision_units, in_utf8
from storage.readers.notes import (
    Annotation,
    annotation,
    breaks_of,
    in_order,
    stimulus_channel,
    tells_events,
    told_by_mne,
    triggers,
)
from storage.readers.timeline import Piece, cut, whole
from storage.signal.caps import Cap
from storage.signal.channels import canonical_channel, check_renames, select_eeg
from storage.signal.units import Unit, assert_like_neighbours, assert_plausible, is_other, resolve_units, uv_per

_BRAINVISION_SCALES = {"V": 1.0, "µV": 1e-6, "uV": 1e-6, "mV": 1e-3, "nV": 1e-9, "µS": 1e-6, "uS": 1e-6}
"""Factor by which MNE multiplies the numbers of a BrainVision file, by unit; 1 for units that it does not know."""
_CUT_SHORT = re.compile(r"\d+ annotation\(s\)")
_LIKE_VOLTS: dict[float | None, Unit] = {1e6: "V", 1e3: "mV", 1.0: "uV"}


class ChannelConfig(BaseModel):
    """Information about the channels that a file does not give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit | None = None
    """Unit of the file's numbers, if its header states it wrongly or not at all."""
    montage: Cap | None = None
    """BioSemi cap whose connectors (A1, A2, ...) the channels are named after."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Channel name in the file -> name in the 10-05 system, or `drop`."""

    @field_validator("rename")
    @classmethod
    def _electrodes(cls, rename: dict[str, str]) -> dict[str, str]:
        check_renames(rename)
        return rename


@dataclass(frozen=True)
class Beside:
    """Information about a file's channels from a side-car table (BIDS)."""

    types: Mapping[str, str] = field(default_factory=dict)
    """MNE channel type by channel name; overrides the file's."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit by channel name, used where the file states none."""
    bads: frozenset[str] = frozenset()
    """Names of the bad channels."""
    names: tuple[str, ...] | None = None
    """All channels that the table lists; None without a table."""
    place: str = ""
    """Path of the table, for error messages."""

    def assert_names(self, names: Sequence[str], types: Sequence[str], place: str) -> None:
        """Refuse a table whose channels are not those of the file; their order does not matter.

        Raises
        ------
        InputError
            When the table lists a channel that the file lacks, or lacks an EEG channel of the file.
        """
        if self.names is None:
            return
        if unknown := [name for name in self.names if name not in names]:
            raise InputError(
                self.place, f"lists {', '.join(unknown[:3])}, which {place} does not hold", "Correct the table."
            )
        missing = [name for name, kind in zip(names, types, strict=True) if kind == "eeg" and name not in self.names]
        if missing := [name for name in missing if canonical_channel(name) is not None]:
            raise InputError(
                self.place, f"does not list {', '.join(missing[:3])}, which {place} holds", "Correct the table."
            )


@dataclass(frozen=True)
class Continuous:
    """A file's EEG: the signal, (n_chans, n_times) in µV, and its pieces without gaps."""

    channels: tuple[str, ...]
    sfreq_hz: float
    signal_uv: np.ndarray
    pieces: tuple[Piece, ...]
    annotations: tuple[Annotation, ...] = ()
    bads: tuple[str, ...] = ()
    provenance: dict[str, str | float | list[str] | None] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """Recording time at which the file ends, in seconds."""
        return max(piece.end for piece in self.pieces)

    def cut(self, trials: list[TrialSpan]) -> RawRecording:
        """Cut the signal into its pieces and combine them with the trials in them."""
        pieces = [self.signal_uv[:, piece.start : piece.stop] for piece in self.pieces]
        onsets = tuple(piece.onset for piece in self.pieces)
        return RawRecording(self.channels, self.sfreq_hz, pieces, trials, self.bads, self.provenance, onsets)


def read_file(path: Path, config: ChannelConfig | None = None) -> RawRecording:
    """Read one recording without labels, one trial per piece.

    Raises
    ------
    InputError
        For the same reasons as `read_continuous`.
    """
    file = read_continuous(path, config)
    spans = [
        TrialSpan(place, 0, piece.num_samples, trial=place + 1, position=place + 1, clip=place + 1, label=None)
        for place, piece in enumerate(file.pieces)
    ]
    return file.cut(spans)


def read_continuous(path: Path, config: ChannelConfig | None = None, beside: Beside | None = None) -> Continuous:
    """Read one recording; the times, units and names that its file states are checked before they are used.

    Channels that are not EEG, by MNE's type or by name, are left out and named in the provenance. EEG channels of
    EDF and BDF are read at their own rate, regardless of the rates of other channels. If a file has a stimulus channel
    but no annotations, its triggers become annotations.

    Raises
    ------
    InputError
        When the file is truncated or incomplete, MNE cannot read it, no channel is a scalp electrode, EEG channels have
        different rates, equal names, a unit that is not a voltage or no scale, samples are not finite, or amplitudes
        are implausible for EEG.
    """
    import mne

    config, beside, place = config or ChannelConfig(), beside or Beside(), str(path)
    assert_file(path)
    header = edf.read_header(path)
    assert_brainvision(path)
    raw, limited = _by_mne(path, preload=header is None)
    types = types_of(raw, path, beside)
    beside.assert_names(raw.ch_names, types, place)
    chosen = select(raw.ch_names, types, config, place)
    told: tuple[Annotation, ...]
    remarks: list[str] = []
    if header is None:
        sfreq_hz = float(raw.info["sfreq"])
        edf.assert_rate(sfreq_hz, place)
        signal_uv, factors = _volts(raw, chosen, config, beside, path)
        pieces, told = whole(signal_uv.shape[1], sfreq_hz), told_by_mne(raw, path, limited=limited)
    else:
        _assert_one_rate(path, raw, header, chosen)
        sfreq_hz = header.rates_hz[chosen.rows[0]]
        signal_uv, factors = _edf_uv(path, header, chosen, config, beside)
        notes, times = edf_times.read_notes(path, header)
        pieces = edf_times.pieces_of(header, times.onsets, sfreq_hz)
        told = in_order(annotation(*note) for note in notes)
        remarks = [remark for remark in (header.remark, times.remark) if remark]
    _assert_finite(signal_uv, chosen.channels, sfreq_hz, place)
    breaks, skipped = breaks_of(told, sfreq_hz, path)
    if path.suffix.lower() == ".mff":
        breaks += mff.starts(raw)
    pieces = cut(pieces, breaks, skipped)
    stretches = [signal_uv[:, piece.start : piece.stop] for piece in pieces]
    taken = config.unit or _LIKE_VOLTS.get(Counter(factors).most_common(1)[0][0])
    assert_like_neighbours(stretches, factors, chosen.names, sfreq_hz, place)
    assert_plausible(stretches, sfreq_hz, place, taken=taken)
    stimuli = stimulus_channel(raw.ch_names, types)
    if stimuli is not None and not tells_events(told) and (found := _triggers(raw, path, header, stimuli)):
        told = in_order([*told, *found])
        remarks.append(f"annotations are the triggers of {stimuli}")
    provenance: dict[str, str | float | list[str] | None] = {
        "reader": f"mne {mne.__version__}",
        "highpass_hz": float(raw.info["highpass"]),
        "lowpass_hz": float(raw.info["lowpass"]),
        "dropped_channels": list(chosen.dropped),
        "stated_unit": config.unit,
        "montage": config.montage,
        **({"remarks": remarks} if remarks else {}),
    }
    bad = {*raw.info["bads"], *beside.bads}
    bads = tuple(channel for name, channel in zip(chosen.names, chosen.channels, strict=True) if name in bad)
    return Continuous(chosen.channels, sfreq_hz, signal_uv, pieces, told, bads, provenance)


@dataclass(frozen=True)
class Selection:
    """Scalp EEG channels of a file: indices, names in the file, canonical names, and the names of channels left out."""

    rows: tuple[int, ...]
    names: tuple[str, ...]
    channels: tuple[str, ...]
    dropped: tuple[str, ...]


def select(names: Sequence[str], types: Sequence[str], config: ChannelConfig, place: str) -> Selection:
    """Pick the scalp EEG channels of a recording.

    Raises
    ------
    InputError
        When no channel is a scalp electrode, or two are the same electrode.
    """
    rows, channels = select_eeg(names, place, types=types, montage=config.montage, rename=config.rename)
    dropped = tuple(name for row, name in enumerate(names) if row not in rows)
    return Selection(tuple(rows), tuple(names[row] for row in rows), tuple(channels), dropped)


def assert_file(path: Path) -> None:
    """Refuse what cannot be a recording: a missing or empty file, a folder, a web page, a part of another recording."""
    assert_there(path)
    if not path.exists():
        raise InputError(str(path), "no such file", "Correct the path.")
    if path.is_dir():
        if path.suffix.lower() in FOLDERS:
            return
        raise InputError(str(path), "is a folder, not a file", "Name the file in it.")
    with path.open("rb") as file:
        start = file.read(512).lower()
    if not start:
        raise InputError(str(path), "is empty", "Fetch the file again.")
    if b"<!doctype html" in start or b"<html" in start:
        raise InputError(str(path), "is a web page, not a recording", "Fetch the file itself.")
    if start.startswith((b"/annex/objects/", b"version https://git-lfs")):
        raise InputError(
            str(path), "holds a pointer to its content, not the content", "Fetch it (datalad get, git lfs pull)."
        )
    assert_header(path)


def _by_mne(path: Path, **options: Any) -> tuple[Any, bool]:
    """Open a file; also return whether MNE warned that it shortened or omitted annotations."""
    import mne

    suffix = path.suffix.lower()
    read = mne.io.read_raw
    if suffix in {".edf", ".bdf"}:
        options["encoding"] = "latin1"  # decodes any byte; annotations are read elsewhere
    elif suffix == ".cnt" and (width := sample_format(path)) is not None:
        read, options["data_format"] = mne.io.read_raw_cnt, width
    try:
        with warnings.catch_warnings(record=True) as said, _unlogged(), in_utf8(path) as readable:
            warnings.simplefilter("always")
            raw = read(readable, verbose="warning", **options)
            if suffix == ".mff":
                mff.assert_no_averages(path)
    except InputError:
        raise
    except Exception as error:  # MNE's parsers can raise almost any error on a damaged file
        raise unreadable(path, error) from None
    return raw, any(_CUT_SHORT.search(str(one.message)) for one in said)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Suppress what MNE logs, as it may quote a header, and what mffpy prints; warnings are still collected."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("mne")
    logger.addFilter(nothing)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.removeFilter(nothing)


def unreadable(path: Path, error: Exception) -> InputError:
    """Error that names the file that a parser failed on, and the reason, without quoting the file."""
    text, suffix = str(error), path.suffix.lower()
    if suffix == ".set" and "number of trials" in text:
        return InputError(
            str(path),
            "holds epochs, not a continuous recording",
            "In EEGLAB, save the data set from before it was cut into epochs (File > Save), and name that file.",
        )
    if suffix == ".set" and ("v7.3" in text or "HDF reader" in text):
        return InputError(
            str(path),
            "is a MATLAB 7.3 file; reading it requires pymatreader, which is not installed",
            "Install it (pip install pymatreader), or save the file again in EEGLAB with -v7.",
        )
    if suffix == ".set" and re.search(r"Could not find the \.fdt|\.fdt not found", text):
        return InputError(
            str(path),
            "the .fdt file that holds its samples is missing",
            f"Put it in the same folder, under its original name or as {path.stem}.fdt.",
        )
    if lacking := re.search(r"the module (\w+) is needed", text):
        return InputError(
            str(path),
            f"reading {suffix} requires {lacking[1]}, which is not installed",
            f"Install it (pip install {lacking[1]}), or export EDF or BrainVision from the recording software.",
        )
    return InputError(
        str(path), f"MNE cannot read it ({reason_of(error)})", "Fetch it again, or convert it to EDF or FIF."
    )


def reason_of(error: Exception) -> str:
    """First line of a parser's message without quoted text, which may be a patient's name from a header."""
    first = next(iter(str(error).splitlines()), "")
    unquoted = re.sub(r"""b?(['"]).*?\1""", "...", first)
    return re.split(r"['\"]", unquoted)[0].strip() or type(error).__name__


def types_of(raw: Any, path: Path, beside: Beside) -> list[str]:
    """MNE's type of each channel; a BrainVision channel counts as EEG unless its unit is known not to be a voltage.

    Raises
    ------
    InputError
        When a channel has a kind that MNE does not know.
    """
    try:
        types = raw.get_channel_types()
    except Exception as error:  # a damaged header can hold kinds that MNE does not know
        raise unreadable(path, error) from None
    if path.suffix.lower() == ".vhdr":
        units = brainvision_units(path)
        types = [
            "eeg" if kind == "misc" and not is_other(unit) else kind for unit, kind in zip(units, types, strict=True)
        ]
    return [beside.types.get(name, kind) for name, kind in zip(raw.ch_names, types, strict=True)]


def _assert_one_rate(path: Path, raw: Any, header: edf.EdfHeader, chosen: Selection) -> None:
    if len(raw.ch_names) != len(header.rates_hz):
        raise InputError(str(path), "MNE reads other channels than those that its header names", "Export it again.")
    rates = [header.rates_hz[row] for row in chosen.rows]
    by_rate = Counter(rates)
    edf.assert_rate(by_rate.most_common(1)[0][0], str(path))
    if len(by_rate) > 1:
        common = by_rate.most_common(1)[0][0]
        odd = next(place for place, rate in enumerate(rates) if rate != common)
        raise InputError(
            str(path),
            f"EEG channels have different rates: {chosen.names[odd]} {rates[odd]:g} Hz, most others {common:g} Hz",
            f"Leave it out: `source.rename: {{'{chosen.names[odd]}': drop}}`.",
        )


def _edf_uv(
    path: Path, header: edf.EdfHeader, chosen: Selection, config: ChannelConfig, beside: Beside
) -> tuple[np.ndarray, list[float]]:
    rows, place = list(chosen.rows), str(path)
    edf.assert_ranges(header, rows, place)
    named = [header.units[header.ordinary[row]] for row in rows]
    texts = [text or beside.units.get(name, "") for text, name in zip(named, chosen.names, strict=True)]
    factors = resolve_units(texts, chosen.names, place, config.unit)
    signal = edf.read_samples(path, header, rows)
    signal *= np.array(factors)[:, None]
    return signal, factors


def _volts(
    raw: Any, chosen: Selection, config: ChannelConfig, beside: Beside, path: Path
) -> tuple[np.ndarray, list[float]]:
    """Convert MNE's samples, in V only if it knows the file's unit, to µV; also return µV per unit of each channel."""
    try:
        signal = raw.get_data(picks=list(chosen.rows))
    except Exception as error:  # MNE's parsers can raise almost any error on a damaged file
        raise unreadable(path, error) from None
    if path.suffix.lower() == ".vhdr":
        units = brainvision_units(path)
        texts = [units[row] for row in chosen.rows]
        scales = [_BRAINVISION_SCALES.get(text.replace("\xc2", ""), 1.0) for text in texts]
    else:
        named = getattr(raw, "_orig_units", None) or {}
        default = "V" if type(raw).__module__.split(".")[-2] == "fiff" else "µV"
        texts = [named.get(name) or default for name in chosen.names]
        scales = [(uv_per(text) or 1e6) * 1e-6 for text in texts]
    pairs = zip(chosen.names, texts, strict=True)
    known = [beside.units.get(name, text) if text == "n/a" else text for name, text in pairs]
    factors = resolve_units(known, chosen.names, str(path), config.unit)
    signal *= np.array([factor / scale for factor, scale in zip(factors, scales, strict=True)])[:, None]
    return signal, factors


def _triggers(raw: Any, path: Path, header: edf.EdfHeader | None, name: str) -> tuple[Annotation, ...]:
    if header is not None:
        return triggers(*edf.triggers(path, header, raw.ch_names.index(name)))
    values = np.rint(raw.get_data(picks=[name])[0]).astype(np.int64)
    return triggers(values, float(raw.info["sfreq"]))


def _assert_finite(signal: np.ndarray, channels: Sequence[str], sfreq_hz: float, place: str) -> None:
    finite = np.isfinite(signal)
    if not finite.all():
        row, sample = (int(index) for index in np.argwhere(~finite)[0])
        raise InputError(
            place,
            f"{int((~finite).sum())} samples are NaN or infinite (first: {channels[row]} at {sample / sfreq_hz:.3f} s)",
            "Repair the file, or leave the channel out in `source.rename`.",
        )
