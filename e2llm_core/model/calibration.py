"""Temperatures of a model's option probabilities, fitted on validation windows and kept in the model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.optimize import minimize_scalar

from storage.errors import InputError
from storage.places.files import write_bytes

CALIBRATION = "calibration.json"
"""File of a model folder."""

RANGE = (0.05, 20.0)
"""Temperatures that are looked at."""


class TaskTemperature(BaseModel):
    """One task's temperature, and what it was fitted on.

    Attributes
    ----------
    task, options
        What was asked, and the closed set of answers.
    temperature
        Log-probabilities are divided by it.
    n
        Validation items.
    nll_before, nll_after
        Mean negative log-likelihood of their true options in nats, at temperature 1 and at this one.
    split_digest, windows_digest
        Of the split, and of the windows that the items show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    options: tuple[str, ...] = Field(min_length=2)
    temperature: float = Field(ge=RANGE[0], le=RANGE[1])
    n: int = Field(gt=0)
    nll_before: float
    nll_after: float
    split_digest: str
    windows_digest: str


class Calibration(BaseModel):
    """Temperatures by task; a task that has none is not calibrated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperatures: tuple[TaskTemperature, ...] = ()

    def temperature(self, task: str | None, options: Sequence[str]) -> float | None:
        """Temperature of a task with these options; None where it was not fitted."""
        wanted = (task, tuple(options))
        return next((one.temperature for one in self.temperatures if (one.task, one.options) == wanted), None)

    def write(self, folder: Path) -> None:
        """Write into a model folder."""
        write_bytes(folder / CALIBRATION, (self.model_dump_json(indent=1) + "\n").encode())


def read_calibration(folder: Path) -> Calibration:
    """Read a model folder's temperatures; none where it was not calibrated.

    Raises
    ------
    InputError
        If the file does not follow its schema.
    """
    path = folder / CALIBRATION
    if not path.exists():
        return Calibration()
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(str(path), problem, "Remove the file: the model then counts as not calibrated.") from error


def tempered(nll: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities of options from their negative log-likelihoods, (items, options) both.

    No option overtakes another. Options whose likelihoods differ by less than float64 resolves (about 1e-16 times the
    temperature, in nats) become equally probable; of the most probable ones the first is then the answer.

    Parameters
    ----------
    nll
        In nats.
    temperature
        Above 1 makes answers less certain; 1 is the softmax.
    """
    logits = -np.asarray(nll, dtype=np.float64)
    weights = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def mean_nll(nll: NDArray[np.floating], truth: NDArray[np.integer], temperature: float) -> float:
    """Mean negative log-likelihood (nats) of the true options, given by number (items,), at a temperature."""
    scaled = -np.asarray(nll, dtype=np.float64) / temperature
    normaliser = np.logaddexp.reduce(scaled, axis=1)
    return float((normaliser - scaled[np.arange(len(scaled)), truth]).mean())


def smoothed_nll(nll: NDArray[np.floating], truth: NDArray[np.integer], temperature: float) -> float:
    """Mean cross-entropy (nats) with the smoothed shares of `fit_temperature`, which it minimises."""
    scaled = -np.asarray(nll, dtype=np.float64) / temperature
    items, options = scaled.shape
    share = 1 / (items + options)
    others = options * np.logaddexp.reduce(scaled, axis=1) - scaled.sum(axis=1)
    return (1 - options * share) * mean_nll(nll, truth, temperature) + share * float(others.mean())


def fit_temperature(nll: NDArray[np.floating], truth: NDArray[np.integer]) -> tuple[float, float, float]:
    """Fit the temperature that makes the true options most likely (Guo et al., 2017, equation 9), smoothed.

    The share of the true option is not 1 but (n + 1) / (n + K), and 1 / (n + K) of each other one, with n items and K
    options (Platt, 1999): that few items are all right does not show that a model is never wrong. The mean
    cross-entropy with these shares is convex in the inverse temperature, so that there is one minimum in `RANGE`.

    Parameters
    ----------
    nll
        Negative log-likelihood of each option in nats, (items, options).
    truth
        Number of the true option, (items,).

    Returns
    -------
    temperature, nll_before, nll_after : float
        The last two are means over items of the true options' negative log-likelihood, not smoothed, in nats. Smoothing
        may leave the last one slightly above the one before it.

    Raises
    ------
    ValueError
        Without items, or with a value that is not finite.
    """
    if not len(nll) or not np.isfinite(nll).all():
        raise ValueError(f"temperature: needs finite likelihoods of at least one item, got shape {np.shape(nll)}")
    found = minimize_scalar(
        lambda log_temperature: smoothed_nll(nll, truth, float(np.exp(log_temperature))),
        bounds=tuple(np.log(RANGE)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    candidates = (1.0, float(np.clip(np.exp(found.x), *RANGE)), *RANGE)
    temperature = min(candidates, key=lambda one: smoothed_nll(nll, truth, one))
    return temperature, mean_nll(nll, truth, 1.0), mean_nll(nll, truth, temperature)
