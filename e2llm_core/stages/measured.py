"""The signal measures of a data set's windows, relative to each session's own average."""

from collections import OrderedDict

import numpy as np
import pandas as pd

from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from e2llm_core.stages.segments import Renumbering
from storage.errors import InputError
from storage.features import Features
from storage.sampling.order import Permutation
from storage.windows import Windows

AVERAGED = 128
"""Windows that a session's average is taken over, spread evenly; all of them where there are no more."""

_WHITENED = {"normalisation": "session-whitening", "adaptation": "transductive-unlabelled"}
_READ = 64
_KEPT = 65_536
_FITTED = 32_768


def whitened(windows: Windows) -> Windows:
    """The same windows with the normalisation that the measures need."""
    return Windows(windows.store, windows.config.model_copy(update=_WHITENED), windows.trials)


def measures_of(windows: Windows) -> SignalMeasures:
    """Measures of windows of these channels, rate and length."""
    return SignalMeasures(windows.channels, windows.sfreq_hz, windows.n_times)


class MeasuredWindows:
    """Deviation of each quantity of a window from its average over the window's whole session.

    The average is the mean over windows of all of the subject's trials in that session, whichever side of a split they
    are on; labels are not used. It depends on the store and the way that windows are cut alone. Measures of the most
    recent windows are kept, so that memory is bounded.

    Parameters
    ----------
    windows : Windows
        Session-whitened, as the measures need them.
    features : Features, optional
        Features of every window of the store: the measures are read from there, and no signal is.

    Raises
    ------
    InputError
        When the features hold other measures.
    """

    def __init__(self, windows: Windows, features: Features | None = None) -> None:
        self.windows = windows
        self.measures = measures_of(windows)
        trials, keys = windows.store.trials, ["subject", "session"]
        sessions = pd.MultiIndex.from_frame(windows.trials[keys]).unique()
        used = pd.MultiIndex.from_frame(trials[keys]).isin(sessions)
        self._whole = Windows(windows.store, windows.config, trials[used])
        self._numbers = Renumbering(windows, self._whole)
        self._session = sessions.get_indexer(pd.MultiIndex.from_frame(self._whole.trials[keys]))
        self._features = features
        if features is not None:
            if features.manifest.quantities != self.measures.names:
                raise InputError(
                    f"data.features: {features.place}",
                    "these features hold other signal measures than this version computes",
                    "Remove the folder and run its features job again, or set data.features=null.",
                )
            self._rows = Renumbering(self._whole, Windows(windows.store, windows.config))
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._averages: dict[int, np.ndarray] = {}

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Deviations float32 (len(ids), n_quantities) of windows from their session's average, not standardised."""
        numbers = self._numbers(ids)
        sessions = self._session[self._whole.locate(numbers)[0]]
        averages = np.stack([self._average(session) for session in sessions.tolist()])
        deviations: np.ndarray = (self._values(numbers) - averages).astype(np.float32)
        return deviations

    def scaler(self) -> QuantityScaler:
        """Spread of the deviations over all windows, or over a fixed sample of very many."""
        count = len(self.windows)
        ids = np.arange(count) if count <= _FITTED else np.sort(Permutation(count, 0)(np.arange(_FITTED)))
        return QuantityScaler.fit(self.measures.names, self(ids))

    def _average(self, session: int) -> np.ndarray:
        """Mean float64 (n_quantities,) over at most `AVERAGED` windows of a session."""
        if session not in self._averages:
            counts = np.diff(self._whole.ends, prepend=0)
            rows = np.flatnonzero(self._session == session)
            numbers = np.concatenate([self._whole.ends[row] - counts[row] + np.arange(counts[row]) for row in rows])
            chosen = np.linspace(0, len(numbers) - 1, min(len(numbers), AVERAGED)).round().astype(np.int64)
            self._averages[session] = self._values(numbers[chosen]).mean(axis=0, dtype=np.float64)
        return self._averages[session]

    def _values(self, numbers: np.ndarray) -> np.ndarray:
        """Measures (len(numbers), n_quantities) of windows of the whole sessions."""
        wanted = dict.fromkeys(numbers.tolist())
        unknown = np.array([number for number in wanted if number not in self._kept], dtype=np.int64)
        fresh: dict[int, np.ndarray] = {}
        for first in range(0, len(unknown), _READ):
            some = unknown[first : first + _READ]
            fresh |= dict(zip(some.tolist(), self._measure(some), strict=True))
        found = np.stack([fresh[number] if number in fresh else self._kept[number] for number in numbers.tolist()])
        self._kept |= fresh
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _measure(self, numbers: np.ndarray) -> np.ndarray:
        if self._features is not None:
            return self._features.measures(self._rows(numbers))
        return self.measures(self._whole.read(numbers))
