"""The windows of a session that a window is compared with, as far as the rule of adaptation lets it know them."""

import numpy as np
import pandas as pd

from storage.windows import Windows


class SessionWindows:
    """Windows by session, and those of a session that came before a window.

    Parameters
    ----------
    windows : Windows
        All windows of some subjects' sessions.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        keys = pd.MultiIndex.from_frame(windows.trials[["subject", "session"]])
        self._session_of_trial = keys.factorize()[0]
        self._position = windows.trials["position"].to_numpy()
        self._recording = windows.trials["recording_id"].factorize()[0]
        self._numbers: dict[int, np.ndarray] = {}

    def session(self, numbers: np.ndarray) -> np.ndarray:
        """Session (len(numbers),) of each window."""
        found: np.ndarray = self._session_of_trial[self._windows.locate(numbers)[0]]
        return found

    def every(self, session: int) -> np.ndarray:
        """Numbers of all windows of a session, trial by trial."""
        if session not in self._numbers:
            counts, ends = np.diff(self._windows.ends, prepend=0), self._windows.ends
            rows = np.flatnonzero(self._session_of_trial == session)
            self._numbers[session] = np.concatenate([np.arange(ends[row] - counts[row], ends[row]) for row in rows])
        return self._numbers[session]

    def earlier(self, number: int) -> np.ndarray:
        """Numbers of the windows of its session that ended before a window began.

        They are of trials of earlier position in other recordings, or in its own recording and ended by its first
        sample, as `storage.normalisation.rules` reads ``causal``.
        """
        whole = self.every(int(self.session(np.array([number]))[0]))
        (row,), (start,) = self._windows.locate([number])
        rows, starts = self._windows.locate(whole)
        own = self._recording[rows] == self._recording[row]
        ended = starts + self._windows.n_times <= start
        found: np.ndarray = whole[np.where(own, ended, self._position[rows] < self._position[row])]
        return found
