"""What every kind of features knows: how it is measured, adapted to a session, and placed in a fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2llm_core.evaluation.references.differential_entropy import adapt
from storage.normalisation.rules import Adaptation


class Features(ABC):
    """A kind of features.

    Attributes
    ----------
    name : str
        Of the kind.
    version : int
        Raised whenever a value changes: what was kept of an older one is then measured again.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(self, eeg_uv: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float32]:
        """Features (batch, d) of windows (batch, n_chans, n_times) in microvolts, each by itself.

        Raises
        ------
        ValueError
            Where the windows are too short or the sampling rate too low.
        """

    def adapt(
        self, features: NDArray[np.float32], groups: NDArray, rule: Adaptation, order: ArrayLike
    ) -> NDArray[np.float32]:
        """Remove what differs between sessions, without labels, by a rule: z-scores, where nothing else is said.

        Parameters are those of `differential_entropy.adapt`.
        """
        return adapt(features, groups, rule, order)

    def in_fold(self, features: NDArray[np.float32], train: NDArray[np.bool_], rule: Adaptation) -> NDArray[np.float32]:
        """Place adapted features relative to the training rows of a fold; most kinds have nothing to do."""
        return features
