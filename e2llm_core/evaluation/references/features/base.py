"""Interface of a kind of features: how it is measured, adapted to a session, and placed in a fold."""

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
        Name of the kind.
    version : int
        Increased whenever a value changes, so that kept features of an older version are measured again.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(self, eeg_uv: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float32]:
        """Features (batch, d) of windows (batch, n_chans, n_times) in microvolts, each window by itself.

        Raises
        ------
        ValueError
            If the windows are too short or the sampling rate is too low.
        """

    def adapt(
        self, features: NDArray[np.float32], groups: NDArray, rule: Adaptation, order: ArrayLike
    ) -> NDArray[np.float32]:
        """Remove differences between sessions by a rule, without labels; z-scores unless a kind overrides it.

        The parameters are those of `differential_entropy.adapt`.
        """
        return adapt(features, groups, rule, order)

    def in_fold(self, features: NDArray[np.float32], train: NDArray[np.bool_], rule: Adaptation) -> NDArray[np.float32]:
        """Place adapted features relative to the training rows of a fold; most kinds return them unchanged."""
        return features
