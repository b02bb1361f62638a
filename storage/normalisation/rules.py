"""Normalisation of windows at read time, under a named rule of what may be known of a session.

The rule, `adaptation`, says which of a subject's own signal in a session may be used, labels never:

* ``none``: nothing but the window itself;
* ``causal``: what was recorded up to the end of the window: trials of earlier `position`, and in the window's own
  recording whatever ends no later than it does;
* ``transductive-unlabelled``: all of the session's trials.

Statistics are taken over windows that fill each trial without overlap. Under ``causal`` a snapshot of them is kept
every `SNAPSHOT_SECONDS` of signal, and a window uses the newest one that lies wholly before its own end; a window that
comes before the first snapshot is normalised by itself. (Filters of ingest look ahead by their own length: this rule is
about normalisation.)
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import numpy as np
import pandas as pd

from storage.errors import InputError
from storage.normalisation.statistics import Statistics, Whitening, ZScore
from storage.normalisation.whitening import WHITENED_BAND_HZ, whitened_bins

Adaptation = Literal["none", "causal", "transductive-unlabelled"]
Normalisation = Literal["none", "window-zscore", "session-zscore", "session-whitening"]
Span = tuple[str, int, int]
"""Recording, first sample, sample after the last."""

SNAPSHOT_SECONDS = 30.0
_READ_AT_ONCE = 64
_CACHE_BYTES = 512 * 2**20
_UNITS: dict[Normalisation, str] = {
    "none": "uV",
    "window-zscore": "zscore",
    "session-zscore": "zscore",
    "session-whitening": "whitened",
}


def unit_of(normalisation: Normalisation) -> str:
    """Unit of normalised samples: 'uV', or dimensionless 'zscore' or 'whitened'."""
    return _UNITS[normalisation]


def assert_allowed(normalisation: Normalisation, adaptation: Adaptation) -> None:
    """Raise ValueError where a normalisation needs more of the session than the rule allows."""
    if normalisation.startswith("session-") and adaptation == "none":
        raise ValueError(f"normalisation {normalisation} needs adaptation: causal or transductive-unlabelled")


_KINDS: dict[Normalisation, Callable[[float], Statistics]] = {
    "window-zscore": ZScore,
    "session-zscore": ZScore,
    "session-whitening": Whitening,
}


@dataclass(frozen=True)
class _Session:
    """Snapshots of one session's statistics, in time order.

    `reach` and `others` say, by recording, what the first k+1 blocks contain: the last sample in that recording, and
    the highest trial position outside it.
    """

    parameters: np.ndarray
    reach: dict[int, np.ndarray]
    others: dict[int, np.ndarray]

    def newest(self, recording: int, position: int, stop: int) -> int:
        """Last snapshot that holds nothing recorded after sample `stop` of a recording; -1 if there is none."""
        within = np.searchsorted(self.reach[recording], stop, side="right")
        before = np.searchsorted(self.others[recording], position, side="left")
        return int(min(within, before)) - 1


class Normaliser:
    """Normalises batches of windows by the statistics that the rule allows to each.

    Parameters
    ----------
    normalisation, adaptation : str
        Kind of normalisation, and which part of a session it may use.
    trials : pandas.DataFrame
        Trials that windows are taken from, in the order in which they are named by number.
    all_trials : pandas.DataFrame
        All trials of the store: the sessions that statistics are taken from.
    sfreq_hz : float
        Sampling rate.
    n_times : int
        Samples per window.
    read : callable
        From spans to float32 (n, n_chans, n_times) in µV.
    cache_bytes : int
        Statistics of sessions that are kept; the least recently used are made anew when needed.

    Raises
    ------
    ValueError
        When the rule does not allow the normalisation.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        adaptation: Adaptation,
        *,
        trials: pd.DataFrame,
        all_trials: pd.DataFrame,
        sfreq_hz: float,
        n_times: int,
        read: Callable[[list[Span]], np.ndarray],
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        assert_allowed(normalisation, adaptation)
        self.normalisation, self.adaptation = normalisation, adaptation
        self._sfreq_hz, self._n_times, self._read, self._cache_bytes = sfreq_hz, n_times, read, cache_bytes
        self._all = all_trials
        self._keys = pd.MultiIndex.from_frame(all_trials[["subject", "session"]]).unique()
        self._session = self._keys.get_indexer(pd.MultiIndex.from_frame(trials[["subject", "session"]]))
        self._names = pd.Index(all_trials["recording_id"].unique())
        self._recording = self._names.get_indexer(trials["recording_id"])
        self._position = trials["position"].to_numpy()
        self._cache: OrderedDict[int, _Session] = OrderedDict()
        self._lock = Lock()

    def __call__(self, windows: np.ndarray, trial: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Normalise windows.

        Parameters
        ----------
        windows : np.ndarray
            float32 (batch, n_chans, n_times) in µV.
        trial : np.ndarray
            int (batch,): row of `trials` that each window is from.
        stop : np.ndarray
            int (batch,): sample of the recording after each window's last.

        Returns
        -------
        np.ndarray
            float32, same shape, in `unit_of(normalisation)`.
        """
        if self.normalisation == "none" or not len(windows):
            return windows
        kind = _KINDS[self.normalisation]
        if self.normalisation == "window-zscore":
            chosen = np.stack([self._alone(window) for window in windows])
        else:
            sessions = {int(key): self._statistics(int(key)) for key in np.unique(self._session[trial])}
            chosen = np.stack(
                [
                    self._allowed(sessions[int(self._session[row])], window, int(row), int(end))
                    for window, row, end in zip(windows, trial, stop, strict=True)
                ]
            )
        return kind(self._sfreq_hz).apply(windows, chosen, self._sfreq_hz)

    def _allowed(self, session: _Session, window: np.ndarray, row: int, stop: int) -> np.ndarray:
        place = len(session.parameters) - 1
        if self.adaptation == "causal":
            place = session.newest(int(self._recording[row]), int(self._position[row]), stop)
        parameters: np.ndarray = session.parameters[place] if place >= 0 else self._alone(window)
        return parameters

    def _alone(self, window: np.ndarray) -> np.ndarray:
        statistics = _KINDS[self.normalisation](self._sfreq_hz)
        statistics.add(window[None])
        return statistics.parameters()

    def _statistics(self, key: int) -> _Session:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = self._accumulated(key)
            self._cache.move_to_end(key)
            while len(self._cache) > 1 and sum(s.parameters.nbytes for s in self._cache.values()) > self._cache_bytes:
                self._cache.popitem(last=False)
            return self._cache[key]

    def _accumulated(self, key: int) -> _Session:
        """Read a session in time order; a snapshot after every block (at the end only, where all of it may be used)."""
        subject, session = self._keys[key]
        rows = self._all[(self._all["subject"] == subject) & (self._all["session"] == session)]
        rows = rows.sort_values(["position", "start"], kind="stable")
        recordings = {name: int(self._names.get_loc(name)) for name in rows["recording_id"].unique()}
        statistics = _KINDS[self.normalisation](self._sfreq_hz)
        seconds, snapshots = 0.0, []
        reach, others = dict.fromkeys(recordings.values(), -1), dict.fromkeys(recordings.values(), -np.inf)
        reached: dict[int, list[int]] = {number: [] for number in reach}
        elsewhere: dict[int, list[float]] = {number: [] for number in reach}

        def snapshot() -> None:
            snapshots.append(statistics.parameters())
            for number in reach:
                reached[number].append(reach[number])
                elsewhere[number].append(others[number])

        for name, position, stop, window in self._adjoining(rows):
            statistics.add(window[None])
            seconds += self._n_times / self._sfreq_hz
            own = recordings[name]
            reach[own] = max(reach[own], stop)
            for number in others:
                if number != own:
                    others[number] = max(others[number], position)
            if self.adaptation == "causal" and seconds >= SNAPSHOT_SECONDS:
                seconds = 0.0
                snapshot()
        if self.adaptation == "transductive-unlabelled":
            snapshot()
        return _Session(
            np.array(snapshots, dtype=np.float32),
            {number: np.array(values) for number, values in reached.items()},
            {number: np.array(values) for number, values in elsewhere.items()},
        )

    def _adjoining(self, rows: pd.DataFrame) -> Iterator[tuple[str, int, int, np.ndarray]]:
        """Windows (n_chans, n_times) that fill each trial without overlap: recording, position, end, signal."""
        columns = ("recording_id", "position", "start", "stop")
        for name, position, start, stop in zip(*(rows[column] for column in columns), strict=True):
            begins = range(int(start), int(stop) - self._n_times + 1, self._n_times)
            for first in range(0, len(begins), _READ_AT_ONCE):
                some = begins[first : first + _READ_AT_ONCE]
                signal = self._read([(name, begin, begin + self._n_times) for begin in some])
                for begin, window in zip(some, signal, strict=True):
                    yield name, int(position), begin + self._n_times, window


def assert_can_be_normalised(normalisation: Normalisation, num_channels: int, n_times: int, sfreq_hz: float) -> None:
    """Raise `InputError` where windows have too few channels or are too short for a normalisation."""
    if normalisation.endswith("zscore") and n_times < 2:
        raise InputError(
            "windows.window_seconds", "a window of one sample has no standard deviation", "Use longer windows."
        )
    if normalisation != "session-whitening":
        return
    if num_channels < 2:
        raise InputError(
            "windows.normalisation",
            "session-whitening subtracts the average of all channels and one channel is left",
            "Keep more channels or set it to none.",
        )
    if not whitened_bins(n_times, sfreq_hz).any():
        raise InputError(
            "windows.window_seconds",
            f"{n_times / sfreq_hz:g} s resolve no frequency in {WHITENED_BAND_HZ} Hz",
            "Use longer windows.",
        )
