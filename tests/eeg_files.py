"""Small EEG files whose truth is known, written byte by byte so that they may also be wrong in any one thing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

Note = tuple[float, float | None, bytes]
"""Onset in seconds, duration, description."""


@dataclass
class EdfFile:
    """An EDF+ or BDF+ file; `signals` are digital, (n_chans, n_times)."""

    signals: np.ndarray
    names: Sequence[str]
    rate: int = 100
    units: Sequence[bytes] = ()
    physical: tuple[float, float] = (-3276.8, 3276.7)
    digital: tuple[int, int] = (-32768, 32767)
    limits: dict[int, tuple[float, float, int, int]] = field(default_factory=dict)
    onsets: Sequence[float] | None = None
    notes: Sequence[Note] = ()
    stated_records: int | None = None
    bdf: bool = False
    annotated: bool = True
    says: str | None = None
    """What the header calls it: C (continuous) or D; by itself what `onsets` make it."""

    @property
    def physical_uv(self) -> np.ndarray:
        """What the samples are, if the unit is µV."""
        (low, high), (first, last) = self.physical, self.digital
        return (self.signals - first) * (high - low) / (last - first) + low

    def write(self, path: Path) -> Path:
        """Write it in records of one second."""
        n_chans, n_times = self.signals.shape
        num_records = n_times // self.rate
        kind = "BDF" if self.bdf else "EDF"
        width = 3 if self.bdf else 2
        lists = self._lists(num_records)
        room = -(-max((len(content) for content in lists), default=0) // width) if self.annotated else 0
        extra = int(self.annotated)
        reserved = f"{kind}+{self.says or ('C' if self.onsets is None else 'D')}" if self.annotated else ""
        head = b"\xffBIOSEMI" if self.bdf else b"0".ljust(8)
        head += b"X X X X".ljust(80) + b"Startdate X X X X".ljust(80) + b"01.01.0100.00.00"
        head += _field(256 * (1 + n_chans + extra), 8) + reserved.encode().ljust(44)
        head += _field(num_records if self.stated_records is None else self.stated_records, 8)
        head += _field(1, 8) + _field(n_chans + extra, 4)
        names = [*self.names, *[f"{kind} Annotations"] * extra]
        units = [*(self.units or [b"uV"] * n_chans), *[b""] * extra]
        limits = [self.limits.get(row, (*self.physical, *self.digital)) for row in range(n_chans)]
        limits += [(-1, 1, -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)] * extra
        head += b"".join(name.encode("latin1").ljust(16) for name in names) + b" " * 80 * len(names)
        head += b"".join(unit.ljust(8) for unit in units)
        for place in range(4):
            head += b"".join(_field(limit[place], 8) for limit in limits)
        head += b" " * 80 * len(names)
        head += b"".join(_field(count, 8) for count in [self.rate] * n_chans + [room] * extra) + b" " * 32 * len(names)
        body = []
        for record in range(num_records):
            body.append(_samples(self.signals[:, record * self.rate : (record + 1) * self.rate].astype("<i4"), width))
            if self.annotated:
                body.append(lists[record].ljust(room * width, b"\0"))
        path.write_bytes(head + b"".join(body))
        return path

    def _lists(self, num_records: int) -> list[bytes]:
        onsets = self.onsets if self.onsets is not None else range(num_records)
        lists = [f"{float(onset):+g}".encode() + b"\x14\x14\0" for onset in onsets]
        for place, (onset, seconds, text) in enumerate(self.notes):
            lasts = b"" if seconds is None else b"\x15" + f"{seconds:.6g}".encode()
            lists[place % num_records] += f"{onset:+.9g}".encode() + lasts + b"\x14" + text + b"\x14\0"
        return lists


def _field(value: float, width: int) -> bytes:
    return f"{value:g}".encode().ljust(width) if isinstance(value, float) else str(value).encode().ljust(width)


def _samples(cut: np.ndarray, width: int) -> bytes:
    return np.ascontiguousarray(cut).view("u1").reshape(*cut.shape, 4)[..., :width].tobytes()


@dataclass
class BrainVisionFile:
    """A BrainVision recording of int16; `markers` are (type, description, first sample from 0, length)."""

    signals: np.ndarray
    names: Sequence[str]
    rate: int = 100
    units: Sequence[str] = ()
    resolution: float = 0.1
    markers: Sequence[tuple[str, str, int, int]] = ()
    encoding: str = "utf-8"
    data_name: str = "s1.eeg"

    def write(self, path: Path) -> Path:
        """Write header, samples and markers beside each other."""
        units = self.units or ["µV"] * len(self.names)
        rows = "".join(
            f"Ch{row}={name},,{self.resolution},{unit}\n"
            for row, (name, unit) in enumerate(zip(self.names, units, strict=True), 1)
        )
        codepage = "Codepage=UTF-8\n" if self.encoding == "utf-8" else ""
        stem = Path(self.data_name).stem
        header = (
            "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\n"
            f"{codepage}DataFile={self.data_name}\nMarkerFile={stem}.vmrk\nDataFormat=BINARY\n"
            f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(self.names)}\nSamplingInterval={1e6 / self.rate}\n\n"
            f"[Binary Infos]\nBinaryFormat=INT_16\n\n[Channel Infos]\n{rows}"
        )
        marks = [("New Segment", "", 0, 1), *self.markers]
        listed = "".join(
            f"Mk{row}={kind},{text},{start + 1},{length},0\n"
            for row, (kind, text, start, length) in enumerate(marks, 1)
        )
        markers = (
            "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\n"
            f"{codepage}DataFile={self.data_name}\n\n[Marker Infos]\n{listed}"
        )
        path.write_bytes(header.encode(self.encoding))
        path.with_name(f"{stem}.vmrk").write_bytes(markers.encode(self.encoding))
        path.with_name(self.data_name).write_bytes(self.signals.T.astype("<i2").tobytes())
        return path


def eeglab(
    path: Path, signal_uv: np.ndarray, names: Sequence[str], rate: float, events: Sequence[tuple[object, float, float]]
) -> Path:
    """Write a .set file; events are (type, latency from 1 in samples, duration in samples)."""
    from scipy.io import savemat

    kinds = [("type", object), ("latency", object), ("duration", object)]
    listed = np.array([(kind, float(at), float(lasts)) for kind, at, lasts in events], dtype=kinds)
    places = np.array([(name,) for name in names], dtype=[("labels", object)])
    content = {
        "setname": "x",
        "nbchan": len(names),
        "trials": 1,
        "pnts": signal_uv.shape[1],
        "srate": float(rate),
        "xmin": 0.0,
        "xmax": (signal_uv.shape[1] - 1) / rate,
        "data": signal_uv.astype(np.float32),
        "chanlocs": places,
        "event": listed,
        "icawinv": [],
        "icasphere": [],
        "icaweights": [],
        "epoch": [],
    }
    savemat(path, {"EEG": content}, appendmat=False)
    return path


def matlab_73(
    path: Path,
    signal_uv: np.ndarray,
    names: Sequence[str],
    rate: float,
    events: Sequence[tuple[str, float]] = (),
    samples_in: str | None = None,
) -> Path:
    """Write a .set file in HDF5, its fields at the top; events are (type, latency from 1 in samples).

    `samples_in` names a file beside it for the samples.
    """
    import h5py

    def text(words: str) -> np.ndarray:
        return np.array([[ord(letter)] for letter in words], dtype=np.uint16)

    with h5py.File(path, "w", userblock_size=512) as file:
        if samples_in is None:
            signal = file.create_dataset("data", data=signal_uv.T.astype(np.float32))
            signal.attrs["MATLAB_class"] = np.bytes_("single")
        else:
            path.with_name(samples_in).write_bytes(signal_uv.T.astype("<f4").tobytes())
            for key in ("data", "datfile"):
                file.create_dataset(key, data=text(samples_in)).attrs["MATLAB_class"] = np.bytes_("char")
        n_chans, n_times = signal_uv.shape
        numbers = {"nbchan": n_chans, "trials": 1, "pnts": n_times, "srate": rate}
        numbers |= {"xmin": 0, "xmax": (n_times - 1) / rate}
        for name, value in numbers.items():
            file.create_dataset(name, data=[[float(value)]]).attrs["MATLAB_class"] = np.bytes_("double")
        happened = {"type": [kind for kind, _ in events], "latency": [float(at) for _, at in events]}
        for group, rows in (("chanlocs", {"labels": list(names)}), ("event", happened)):
            for key, values in rows.items():
                place = file.require_group(group)
                place.attrs["MATLAB_class"] = np.bytes_("struct")
                found = []
                for number, value in enumerate(values):
                    content = text(value) if isinstance(value, str) else np.array([[value]])
                    cell = file.create_dataset(f"#refs#/{group}{key}{number}", data=content)
                    cell.attrs["MATLAB_class"] = np.bytes_("char" if isinstance(value, str) else "double")
                    found.append([cell.ref])
                place.create_dataset(key, data=np.array(found, dtype=h5py.ref_dtype))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def mff(
    path: Path,
    signal_uv: np.ndarray,
    rate: int,
    pauses: Sequence[tuple[int, float]] = (),
    events: Sequence[tuple[str, float]] = (),
) -> Path:
    """Write a folder of Net Station with a net of 32 electrodes and their reference, (33, n_times) in µV.

    `pauses` are (sample at which recording went on, seconds of the pause), `events` (code, seconds from the start).
    """
    import mffpy

    writer = mffpy.Writer(str(path))
    binary = mffpy.bin_writer.BinWriter(rate)
    edges = [(0, None), *((at, round(seconds * 1e6)) for at, seconds in pauses), (signal_uv.shape[1], None)]
    for (start, offset), (stop, _) in pairwise(edges):
        binary.add_block(np.ascontiguousarray(signal_uv[:, start:stop], dtype=np.float32), offset_us=offset)
    begin = datetime(2000, 1, 1, tzinfo=UTC)
    writer.addxml("fileInfo", recordTime=begin)
    listed = [
        {"beginTime": begin + timedelta(seconds=at), "duration": 1000, "code": code, "label": code}
        for code, at in events
    ]
    writer.addxml("eventTrack", filename="Events_x.xml", name="x", trackType="EVNT", events=listed)
    writer.add_coordinates_and_sensor_layout("HydroCel GSN 32 1.0")
    writer.addbin(binary)
    writer.write()
    return path
