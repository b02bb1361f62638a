"""The signal measures of a data set's windows, computed when they are asked for."""

from collections import OrderedDict

import numpy as np

from e2llm_core.language.measures import Reference, SignalMeasures
from storage.sampling.order import Permutation
from storage.windows import Windows

_READ = 64
_KEPT = 65_536
_FITTED = 32_768


class MeasuredWindows:
    """Signal measures by window number; those of the most recent windows are kept, so that memory is bounded.

    Parameters
    ----------
    windows : Windows
        Session-whitened, as the measures need them.
    """

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.measures = SignalMeasures(windows.channels, windows.sfreq_hz, windows.n_times)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Measures (len(ids), n_quantities) of windows, not standardised."""
        ids = np.asarray(ids)
        unknown = np.array([number for number in dict.fromkeys(ids.tolist()) if number not in self._kept], dtype=int)
        fresh: dict[int, np.ndarray] = {}
        for first in range(0, len(unknown), _READ):
            some = unknown[first : first + _READ]
            fresh |= dict(zip(some.tolist(), self.measures(self.windows.read(some)), strict=True))
        found = np.stack([fresh[number] if number in fresh else self._kept[number] for number in ids.tolist()])
        self._kept |= fresh
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def reference(self) -> Reference:
        """Mean and spread over all windows, or over a fixed sample of very many."""
        count = len(self.windows)
        ids = np.arange(count) if count <= _FITTED else np.sort(Permutation(count, 0)(np.arange(_FITTED)))
        return Reference.fit(self(ids))
