"""The signal measures of a data set's windows, relative to what the rule of adaptation lets them be compared with.

============================ ============================== =================================================
`adaptation`                 measured in                    reference
============================ ============================== =================================================
``none``                     the recording's microvolts     the population: mean over the windows that stage 1
                                                            fitted, in `QuantityScaler.mean`
``causal``                   the recording's microvolts     the session so far: mean over its windows that ended
                                                            before this one began
``transductive-unlabelled``  session-whitened windows       the session: mean over its windows
============================ ============================== =================================================

Windows that are z-scored by themselves have lost their level: they are measured as the model sees them, and power is
then a share of the channel's whole power.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from e2llm_core.claims.table import DEFAULT_KINDS
from e2llm_core.claims.wording import REFERENCE_OF, Reference
from e2llm_core.stages.earlier import SessionWindows
from e2llm_core.stages.reliability import FEWEST, correlation, neighbours, split_half
from e2llm_core.stages.segments import Renumbering
from storage.errors import InputError
from storage.features import Features
from storage.normalisation.rules import Normalisation
from storage.sampling.order import Permutation
from storage.windows import WindowConfig, Windows

AVERAGED = 128
"""Windows that a reference in the session is taken over, spread evenly; all of them where there are no more."""

_READ = 64
_KEPT = 65_536
_FITTED = 32_768


def as_measured(windows: Windows) -> Windows:
    """The same windows with the normalisation that the measures need."""
    config = windows.config.model_copy(update={"normalisation": _normalisation(windows.config)})
    return Windows(windows.store, config, windows.trials)


def _normalisation(config: WindowConfig) -> Normalisation:
    if config.adaptation == "transductive-unlabelled":
        return "session-whitening"
    return "window-zscore" if config.normalisation == "window-zscore" else "none"


def measures_of(windows: Windows, kinds: Sequence[str] = DEFAULT_KINDS) -> SignalMeasures:
    """Measures of windows of these channels, rate and length."""
    return SignalMeasures(windows.channels, windows.sfreq_hz, windows.n_times, kinds)


class MeasuredWindows:
    """Deviation of each quantity of a window from its reference, as far as the windows' own sessions give it.

    A session's windows are those of all of the subject's trials in it, whichever side of a split they are on; labels
    are not used. Where the reference is the population, nothing is subtracted here: `QuantityScaler.standardise` does.
    The first window of a session has nothing before it: under ``causal`` all of its deviations are 0, which is no
    claim. Deviations depend on the store and the way that windows are cut alone. Measures of the most recent windows
    are kept, so that memory is bounded.

    Parameters
    ----------
    windows : Windows
        As `as_measured` gives them.
    features : Features, optional
        Features of every window of the store: the measures are read from there, and no signal is.
    kinds : sequence of str
        Names of the kinds of claim to measure.

    Attributes
    ----------
    reference : str
        What the windows' rule lets them be compared with.

    Raises
    ------
    InputError
        When the features hold other measures.
    """

    def __init__(
        self, windows: Windows, features: Features | None = None, kinds: Sequence[str] = DEFAULT_KINDS
    ) -> None:
        self.windows, self._kinds = windows, tuple(kinds)
        self.measures = measures_of(windows, kinds)
        self.reference: Reference = REFERENCE_OF[windows.config.adaptation]
        trials, keys = windows.store.trials, ["subject", "session"]
        sessions = pd.MultiIndex.from_frame(windows.trials[keys]).unique()
        used = pd.MultiIndex.from_frame(trials[keys]).isin(sessions)
        self._whole = Windows(windows.store, windows.config, trials[used])
        self._numbers = Renumbering(windows, self._whole)
        self._sessions = SessionWindows(self._whole)
        self._features = features
        if features is not None:
            if features.manifest.quantities != self.measures.names:
                raise InputError(
                    f"data.features: {features.place}",
                    "these features hold other signal measures than data.claims names in this version",
                    "Run their features job with the same `claims` and another folder, or set data.features=null.",
                )
            self._rows = Renumbering(self._whole, Windows(windows.store, windows.config))
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._averages: dict[int, np.ndarray] = {}

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Deviations float32 (len(ids), n_quantities) of windows from their reference, not standardised."""
        numbers = self._numbers(ids)
        if self.reference == "population":
            return self._values(numbers)
        if self.reference == "session":
            averages = np.stack([self._average(session) for session in self._sessions.session(numbers).tolist()])
            return (self._values(numbers) - averages).astype(np.float32)
        parts = [self._from_earlier(numbers[first : first + _READ]) for first in range(0, len(numbers), _READ)]
        return np.concatenate(parts)

    def scaler(self) -> QuantityScaler:
        """Reference, spread and reliability over all windows, or over a fixed sample of very many."""
        count = len(self.windows)
        ids = np.arange(count) if count <= _FITTED else np.sort(Permutation(count, 0)(np.arange(_FITTED)))
        return QuantityScaler.fit(self.measures.names, self(ids), self._reliability(), self.reference)

    def _reliability(self) -> np.ndarray:
        first, second = neighbours(self.windows)
        if len(first) >= FEWEST:
            return correlation(self(first), self(second))
        trials = self.windows.trials.groupby(["subject", "session"]).ngroup().to_numpy()
        return split_half(self.windows, None if self.reference == "population" else trials, self._kinds)

    def _average(self, session: int) -> np.ndarray:
        """Mean float64 (n_quantities,) over at most `AVERAGED` windows of a session."""
        if session not in self._averages:
            chosen = _spread(self._sessions.every(session))
            self._averages[session] = self._values(chosen).mean(axis=0, dtype=np.float64)
        return self._averages[session]

    def _from_earlier(self, numbers: np.ndarray) -> np.ndarray:
        """Deviations (len(numbers), n_quantities) from the mean over earlier windows, at most `AVERAGED` for each."""
        earlier = [_spread(self._sessions.earlier(number)) for number in numbers.tolist()]
        wanted = np.unique(np.concatenate([numbers, *earlier]))
        values = self._values(wanted)
        own = values[np.searchsorted(wanted, numbers)]
        deviations = np.zeros_like(own)
        for row, before in enumerate(earlier):
            if len(before):
                deviations[row] = own[row] - values[np.searchsorted(wanted, before)].mean(axis=0, dtype=np.float64)
        return deviations

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


def _spread(numbers: np.ndarray) -> np.ndarray:
    """At most `AVERAGED` of some windows, evenly spread."""
    chosen = np.linspace(0, len(numbers) - 1, min(len(numbers), AVERAGED)).round().astype(np.int64)
    found: np.ndarray = numbers[chosen]
    return found
