"""Windows of any length, stride, channel subset and normalisation, computed from trials at read time."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.errors import InputError
from storage.store import Store, rows_of, subjects_of
from storage.whitening import WHITENED_BAND_HZ, apply_whitening, whitened_bins, whitening_gains

if TYPE_CHECKING:
    import tensorstore as ts

_READ_AT_ONCE = 64
Adaptation = Literal["none", "transductive-unlabelled"]


class WindowConfig(BaseModel):
    """How recordings are cut into windows and normalised.

    `adaptation` names what of a subject's own signal may be used: ``none``, or ``transductive-unlabelled``
    (all of the session's signal, no labels). The same rule is applied to models and baselines, and printed
    with each result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_seconds: float = Field(4.0, gt=0, le=600)
    stride_seconds: float = Field(4.0, gt=0, le=600)
    channels: tuple[str, ...] | None = None
    normalisation: Literal["none", "session-whitening"] = "none"
    adaptation: Adaptation = "none"

    @model_validator(mode="after")
    def _allowed(self) -> "WindowConfig":
        if self.channels is not None and (not self.channels or len(set(self.channels)) < len(self.channels)):
            raise ValueError("channels must name at least one channel, each once")
        if self.normalisation == "session-whitening" and self.adaptation != "transductive-unlabelled":
            raise ValueError("normalisation session-whitening needs adaptation: transductive-unlabelled")
        return self

    @property
    def unit(self) -> str:
        """Unit of the samples handed out: 'uV' or 'whitened' (dimensionless, unit variance)."""
        return "uV" if self.normalisation == "none" else "whitened"


class Windows:
    """The windows of some of a store's subjects, numbered 0..len-1 by subject, session, trial and time.

    Parameters
    ----------
    store : Store
        Where the recordings are.
    config : WindowConfig
        Length, stride, channels, normalisation.
    subjects : sequence of str, optional
        Subjects to keep; all when None.

    Raises
    ------
    InputError
        When the store has no such subject, recordings differ in rate, lack a channel, no trial is as long as
        a window, or a window is too short or has too few channels to be whitened.
    """

    def __init__(self, store: Store, config: WindowConfig, subjects: Sequence[str] | None = None) -> None:
        self.store, self.config = store, config
        if unknown := sorted(set(subjects or ()) - set(subjects_of(store.trials))):
            raise InputError(
                str(store.root),
                f"no subject {', '.join(unknown)}",
                f"It has: {', '.join(subjects_of(store.trials))}.",
            )
        self.trials = store.trials if subjects is None else rows_of(store.trials, subjects)
        if self.trials.empty:
            raise InputError(str(store.root), "no subject was named", "Name at least one.")
        infos = [store.recordings[name] for name in self.trials["recording_id"].unique()]
        rates = {info.sfreq_hz for info in infos}
        if len(rates) != 1:
            raise InputError(str(store.root), f"sampling rates differ: {sorted(rates)}", "Ingest with one `sfreq_hz`.")
        self.sfreq_hz = rates.pop()
        self.channels = config.channels or infos[0].channels
        for info in infos:
            if missing := [name for name in self.channels if name not in info.channels]:
                raise InputError(
                    info.recording_id,
                    f"has no channel {', '.join(missing)}",
                    f"Correct `windows.channels`; it has {', '.join(info.channels)}.",
                )
        self.n_times = round(config.window_seconds * self.sfreq_hz)
        self._stride = round(config.stride_seconds * self.sfreq_hz)
        if not self.n_times or not self._stride:
            raise InputError(
                "windows",
                f"a window or stride is shorter than one sample at {self.sfreq_hz:g} Hz",
                "Raise `window_seconds` or `stride_seconds`.",
            )
        if config.normalisation == "session-whitening":
            self._assert_can_be_whitened()
        lengths = (self.trials["stop"] - self.trials["start"]).to_numpy()
        counts = np.maximum(0, (lengths - self.n_times) // self._stride + 1)
        self._ends = np.cumsum(counts)
        if not len(self):
            raise InputError(str(store.root), f"no trial lasts {config.window_seconds} s", "Shorten `window_seconds`.")
        self._arrays: dict[str, tuple[ts.TensorStore, np.ndarray, np.ndarray]] = {}
        self._whiteners: dict[tuple[str, str], np.ndarray] = {}

    def _assert_can_be_whitened(self) -> None:
        if len(self.channels) < 2:
            raise InputError(
                "windows.normalisation",
                "session-whitening subtracts the average of all channels and one channel is left",
                "Keep more channels or set it to none.",
            )
        if not whitened_bins(self.n_times, self.sfreq_hz).any():
            raise InputError(
                "windows.window_seconds",
                f"{self.config.window_seconds} s resolve no frequency in {WHITENED_BAND_HZ} Hz",
                "Use longer windows.",
            )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def describe(self, indices: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Look up windows: their trials' rows, with their own `start`, `stop` (samples) and `window` number.

        Raises
        ------
        IndexError
            When a number is not in 0..len-1.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"window numbers must lie in 0..{len(self) - 1}")
        trial = np.searchsorted(self._ends, indices, side="right")
        first = np.concatenate([[0], self._ends])[trial]
        table = self.trials.iloc[trial].reset_index(drop=True)
        start = table["start"].to_numpy() + (indices - first) * self._stride
        return table.assign(window=indices, start=start, stop=start + self.n_times)

    @cached_property
    def table(self) -> pd.DataFrame:
        """All windows, one row each: for evaluation-sized sets."""
        return self.describe(np.arange(len(self)))

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read windows.

        Returns
        -------
        np.ndarray
            float32 (batch, n_chans, n_times) in `config.unit`.

        Raises
        ------
        InputError
            When stored samples are missing or fail their checksum.
        """
        rows = self.describe(indices)
        if rows.empty:
            return np.zeros((0, len(self.channels), self.n_times), dtype=np.float32)
        spans = zip(rows["recording_id"], rows["start"], rows["stop"], strict=True)
        out = self._read_spans([(name, int(start), int(stop)) for name, start, stop in spans])
        if self.config.normalisation == "session-whitening":
            keys = list(zip(rows["subject"], rows["session"], strict=True))
            gains = np.stack([self._whitener(key) for key in keys])
            return apply_whitening(out, gains)
        return out

    def _read_spans(self, spans: list[tuple[str, int, int]]) -> np.ndarray:
        futures = []
        for name, start, stop in spans:
            array, picks, scale = self._open(name)
            futures.append((name, array[:, start:stop].read(), picks, scale))
        windows = []
        for name, future, picks, scale in futures:
            try:
                steps = future.result()
            except ValueError as error:
                raise self._unreadable(name, error) from error
            windows.append(steps[picks].astype(np.float32) * scale)
        return np.stack(windows)

    def _unreadable(self, name: str, error: Exception) -> InputError:
        reason = str(error).split(" [", 1)[0].split("\n", 1)[0]
        return InputError(
            str(self.store.signal_path(name)),
            f"samples are missing or damaged ({reason})",
            f"Delete recording {name} and run the ingest job again.",
        )

    def _open(self, name: str) -> "tuple[ts.TensorStore, np.ndarray, np.ndarray]":
        if name not in self._arrays:
            import tensorstore as ts

            info = self.store.recordings[name]
            path = str(self.store.signal_path(name).resolve())
            spec = {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": path},
                "fill_missing_data_reads": False,
            }
            try:
                array = ts.open(spec, read=True).result()
            except ValueError as error:
                raise self._unreadable(name, error) from error
            picks = np.array([info.channels.index(channel) for channel in self.channels])
            scale = np.asarray(info.scale_uv, dtype=np.float32)[picks, None]
            self._arrays[name] = (array, picks, scale)
        return self._arrays[name]

    def _whitener(self, key: tuple[str, str]) -> np.ndarray:
        """(n_chans, n_freqs) gains of a subject's session, from all of its own signal, without labels."""
        if key not in self._whiteners:
            rows = self.store.trials
            rows = rows[(rows["subject"] == key[0]) & (rows["session"] == key[1])]
            self._whiteners[key] = whitening_gains(self._adjoining(rows), self.sfreq_hz)
        return self._whiteners[key]

    def _adjoining(self, rows: pd.DataFrame) -> Iterator[np.ndarray]:
        """Windows (n_chans, n_times) that fill each trial without overlap."""
        for name, start, stop in zip(rows["recording_id"], rows["start"], rows["stop"], strict=True):
            begins = range(int(start), int(stop) - self.n_times + 1, self.n_times)
            for first in range(0, len(begins), _READ_AT_ONCE):
                some = begins[first : first + _READ_AT_ONCE]
                yield from self._read_spans([(name, begin, begin + self.n_times) for begin in some])
