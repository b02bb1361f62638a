"""One file through MNE: scalp EEG in µV, its gaps and annotations, and nothing of the header's personal fields."""

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
"""By what MNE multiplies numbers of a BrainVision file, by the unit; by 1 what it does not know."""
_CUT_SHORT = re.compile(r"\d+ annotation\(s\)")
_LIKE_VOLTS: dict[float | None, Unit] = {1e6: "V", 1e3: "mV", 1.0: "uV"}


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
class Beside:
    """What is known of a file's channels from a table beside it (BIDS)."""

    types: Mapping[str, str] = field(default_factory=dict)
    """MNE's type by name; in place of the file's."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit by name, where the file names none."""
    bads: frozenset[str] = frozenset()
    names: tuple[str, ...] | None = None
    """All channels that the table has."""
    place: str = ""
    """The table."""

    def assert_names(self, names: Sequence[str], types: Sequence[str], place: str) -> None:
        """Refuse a table that speaks of other channels than the file holds; their order does not matter.

        Raises
        ------
        InputError
            Naming a channel that only one of them has; one of the file that is no EEG may be missing in the table.
        """
        if self.names is None:
            return
        if unknown := [name for name in self.names if name not in names]:
            raise InputError(
                self.place, f"names {', '.join(unknown[:3])}, which {place} does not hold", "Correct the table."
            )
        missing = [name for name, kind in zip(names, types, strict=True) if kind == "eeg" and name not in self.names]
        if missing := [name for name in missing if canonical_channel(name) is not None]:
            raise InputError(
                self.place, f"does not name {', '.join(missing[:3])}, which {place} holds", "Correct the table."
            )


@dataclass(frozen=True)
class Continuous:
    """A file's EEG: (n_chans, n_times) in µV, and the stretches of it without a gap inside."""

    channels: tuple[str, ...]
    sfreq_hz: float
    signal_uv: np.ndarray
    pieces: tuple[Piece, ...]
    annotations: tuple[Annotation, ...] = ()
    bads: tuple[str, ...] = ()
    provenance: dict[str, str | float | list[str] | None] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """Recording time of the end, in seconds."""
        return max(piece.end for piece in self.pieces)

    def cut(self, trials: list[TrialSpan]) -> RawRecording:
        """Hand out the pieces together with trials in them."""
        pieces = [self.signal_uv[:, piece.start : piece.stop] for piece in self.pieces]
        onsets = tuple(piece.onset for piece in self.pieces)
        return RawRecording(self.channels, self.sfreq_hz, pieces, trials, self.bads, self.provenance, onsets)


def read_file(path: Path, config: ChannelConfig | None = None) -> RawRecording:
    """Read one recording without labels, one trial per piece.

    Raises
    ------
    InputError
        As `read_continuous`.
    """
    file = read_continuous(path, config)
    spans = [
        TrialSpan(place, 0, piece.num_samples, trial=place + 1, position=place + 1, clip=place + 1, label=None)
        for place, piece in enumerate(file.pieces)
    ]
    return file.cut(spans)


def read_continuous(path: Path, config: ChannelConfig | None = None, beside: Beside | None = None) -> Continuous:
    """Read one recording; what its file says of time, units and names is checked before it is believed.

    Channels that are not EEG, by MNE's type or by name, are left out and named in the provenance. EEG channels of
    EDF and BDF are read at their own rate, whatever the rates of the others. A file without annotations that has a
    stimulus channel has its triggers as annotations.

    Raises
    ------
    InputError
        When the file is cut off or incomplete, MNE cannot read it, no channel is a scalp electrode, EEG channels have
        different rates, equal names, no voltage as unit or no scale, samples are not finite, or amplitudes are not
        those of EEG.
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
    """The scalp EEG among a file's channels: places, the file's names, canonical names, and what is left out."""

    rows: tuple[int, ...]
    names: tuple[str, ...]
    channels: tuple[str, ...]
    dropped: tuple[str, ...]


def select(names: Sequence[str], types: Sequence[str], config: ChannelConfig, place: str) -> Selection:
    """Pick the scalp EEG channels of a recording.

    Raises
    ------
    InputError
        When none is a scalp electrode, or two are the same.
    """
    rows, channels = select_eeg(names, place, types=types, montage=config.montage, rename=config.rename)
    dropped = tuple(name for row, name in enumerate(names) if row not in rows)
    return Selection(tuple(rows), tuple(names[row] for row in rows), tuple(channels), dropped)


def assert_file(path: Path) -> None:
    """Refuse what is no recording at all: nothing, a folder, an empty file, a web page, a part of another file."""
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
    """Open a file; also tell whether MNE said that it shortened annotations or left them out."""
    import mne

    suffix = path.suffix.lower()
    read = mne.io.read_raw
    if suffix in {".edf", ".bdf"}:
        options["encoding"] = "latin1"  # any byte is one; the annotations are read elsewhere
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
    except Exception as error:  # MNE's parsers raise whatever the damage leads them to
        raise unreadable(path, error) from None
    return raw, any(_CUT_SHORT.search(str(one.message)) for one in said)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Have MNE's warnings collected and not printed: they may quote a header; nor what mffpy prints."""

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
    """Say which file a parser gave up on, and why, without quoting the file."""
    text, suffix = str(error), path.suffix.lower()
    if suffix == ".set" and "number of trials" in text:
        return InputError(
            str(path),
            "holds epochs, not a continuous recording",
            "Save the data set as it was before epochs were cut (EEGLAB: File > Save), and name that file.",
        )
    if suffix == ".set" and ("v7.3" in text or "HDF reader" in text):
        return InputError(
            str(path),
            "is a MATLAB 7.3 file, for which pymatreader is not installed",
            "Install it (pip install pymatreader), or save the file again in EEGLAB with -v7.",
        )
    if suffix == ".set" and re.search(r"Could not find the \.fdt|\.fdt not found", text):
        return InputError(
            str(path),
            "the .fdt file with its samples is missing",
            f"Put it beside this one, under the name that it had or as {path.stem}.fdt.",
        )
    if lacking := re.search(r"the module (\w+) is needed", text):
        return InputError(
            str(path),
            f"reading {suffix} takes {lacking[1]}, which is not installed",
            f"Install it (pip install {lacking[1]}), or have its software export EDF or BrainVision.",
        )
    return InputError(
        str(path), f"MNE cannot read it ({reason_of(error)})", "Fetch it again, or convert it to EDF or FIF."
    )


def reason_of(error: Exception) -> str:
    """First line of a parser's message without what it quotes: that may be a patient's name out of a header."""
    first = next(iter(str(error).splitlines()), "")
    unquoted = re.sub(r"""b?(['"]).*?\1""", "...", first)
    return re.split(r"['\"]", unquoted)[0].strip() or type(error).__name__


def types_of(raw: Any, path: Path, beside: Beside) -> list[str]:
    """MNE's type of each channel; a BrainVision channel is EEG unless its unit is known to be of something else.

    Raises
    ------
    InputError
        When channels have a kind that MNE does not know.
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
        raise InputError(str(path), "MNE sees other channels than its header names", "Export it again.")
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
    """Samples in µV, from MNE's, which are in V as far as it understood the unit; and µV per number of the file."""
    try:
        signal = raw.get_data(picks=list(chosen.rows))
    except Exception as error:  # MNE's parsers raise whatever the damage leads them to
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
