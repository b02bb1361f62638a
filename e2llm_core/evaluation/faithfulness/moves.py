"""Moves a band power of a window to a target deviation, in the signal itself, and measures the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.claims.power import POWER
from e2llm_core.evaluation.faithfulness.edits import BandEdit, edited
from e2llm_core.stages.measured import MeasuredWindows

TOLERANCE_SD = 0.1
"""A gain is corrected until the deviation is this close to its target."""
REACHED_SD = 0.25
"""Largest distance from the target at which a move counts as made."""

_ROUNDS = 12
_LARGEST_LOG_GAIN = np.log(1000.0)
_READ = 64


@dataclass(frozen=True)
class Moved:
    """Windows in each of which one quantity was moved.

    Attributes
    ----------
    edits : list of BandEdit
        Edit of each window.
    deviations : np.ndarray
        float32 (windows, quantities) after the move, in SD, measured.
    made : np.ndarray
        bool (windows,): whether the quantity is within `REACHED_SD` of its target.
    """

    edits: list[BandEdit]
    deviations: np.ndarray
    made: np.ndarray


class Mover:
    """Finds the gain that moves a band power to its target.

    Only powers can be moved. A gain g of the amplitude changes the log power by 2 log g, apart from the effect of the
    average reference and of normalisation; a few corrections account for these.

    Parameters
    ----------
    measured : MeasuredWindows
        Measures of the windows.
    scaler : QuantityScaler
        The model's own spread of the quantities.
    """

    def __init__(self, measured: MeasuredWindows, scaler: QuantityScaler) -> None:
        self._measured, self._scaler = measured, scaler
        self._quantities = measured.measures.quantities

    def __call__(self, windows: np.ndarray, quantities: Sequence[Quantity], targets: np.ndarray) -> Moved:
        """Move one quantity of each window.

        Parameters
        ----------
        windows : np.ndarray
            int64 (windows,): numbers of windows of `measured`.
        quantities : sequence of Quantity
            Power to move in each window.
        targets : np.ndarray
            float (windows,): target deviations, in SD.

        Raises
        ------
        ValueError
            If a quantity is not a power.
        """
        if wrong := [quantity.name for quantity in quantities if quantity.kind != POWER.name]:
            raise ValueError(f"only powers can be moved, not {wrong[0]}")
        columns = np.array([self._quantities.index(quantity) for quantity in quantities], dtype=np.int64)
        found = [
            self._moved(windows[at : at + _READ], columns[at : at + _READ], targets[at : at + _READ])
            for at in range(0, len(windows), _READ)
        ]
        gains = np.concatenate([np.zeros(0), *(gain for gain, _ in found)])
        deviations = np.concatenate([np.zeros((0, len(self._quantities)), np.float32), *(after for _, after in found)])
        edits = [BandEdit(one.band, one.region, float(gain)) for one, gain in zip(quantities, gains, strict=True)]
        reached = deviations[np.arange(len(windows)), columns]
        return Moved(edits, deviations, np.abs(reached - targets) <= REACHED_SD)

    def _moved(self, windows: np.ndarray, columns: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gains (windows,) and deviations (windows, quantities) of a few windows."""
        before = self._scaler.standardise(self._measured(windows))
        log_gain, after = np.zeros(len(windows)), before.copy()
        plain, std = self._measures(windows, columns, log_gain), self._scaler.std
        for _ in range(_ROUNDS):
            gap = targets - after[np.arange(len(windows)), columns]
            open_ = np.flatnonzero(np.abs(gap) > TOLERANCE_SD)
            if not len(open_):
                break
            step = gap[open_] * std[columns[open_]] / 2
            log_gain[open_] = np.clip(log_gain[open_] + step, -_LARGEST_LOG_GAIN, _LARGEST_LOG_GAIN)
            changed = self._measures(windows[open_], columns[open_], log_gain[open_]) - plain[open_]
            after[open_] = before[open_] + changed / std
        return np.exp(log_gain), after

    def _measures(self, windows: np.ndarray, columns: np.ndarray, log_gain: np.ndarray) -> np.ndarray:
        source = self._measured.windows
        edits = [
            BandEdit(self._quantities[column].band, self._quantities[column].region, float(np.exp(gain)))
            for column, gain in zip(columns, log_gain, strict=True)
        ]
        change = partial(edited, edits=edits, channels=source.channels, sfreq_hz=source.sfreq_hz)
        return self._measured.measures(source.read(windows, change=change))
