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
"""Name of the file in a model folder."""

RANGE = (0.05, 20.0)
"""Smallest and largest temperature that is considered."""


class TaskTemperature(BaseModel):
    """One task's temperature, and the data it was fitted on.

    Attributes
    ----------
    task, options
        Name of the task, and the closed set of answers.
    temperature
        Divisor of the log-probabilities.
    n
        Number of validation items.
    nll_before, nll_after
        Mean negative log-likelihood of the true options in nats, at temperature 1 and at this temperature.
    split_digest, windows_digest
        Digests of the split, and of the windows that the items show.
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
    """Temperatures by task; a task without one is not calibrated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperatures: tuple[TaskTemperature, ...] = ()

    def temperature(self, task: str | None, options: Sequence[str]) -> float | None:
        """Temperature of a task with these options; None if none was fitted."""
        wanted = (task, tuple(options))
        return next((one.temperature for one in self.temperatures if (one.task, one.options) == wanted), None)

    def write(self, folder: Path) -> None:
        """Write the temperatures into a model folder."""
        write_bytes(folder / CALIBRATION, (self.model_dump_json(indent=1) + "\n").encode())


def read_calibration(folder: Path) -> Calibration:
    """Read a model folder's temperatures; empty if the model was not calibrated.

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
    """Probabilities of options from their negative log-likelihoods.

    The ranking of options does not change. Options whose likelihoods differ by less than float64 resolves (about 1e-16
    times the temperature, in nats) become equally probable; among equally probable options, the first is the answer.

    Parameters
    ----------
    nll
        Negative log-likelihoods in nats, (items, options).
    temperature
        Values above 1 make answers less certain; 1 is the plain softmax.

    Returns
    -------
    np.ndarray
        float64 (items, options); each row sums to 1.
    """
    logits = -np.asarray(nll, dtype=np.float64)
    weights = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def mean_nll(nll: NDArray[np.floating], truth: NDArray[np.integer], temperature: float) -> float:
    """Mean negative log-likelihood (nats) of the true options, given by index (items,), at a temperature."""
    scaled = -np.asarray(nll, dtype=np.float64) / temperature
    normaliser = np.logaddexp.reduce(scaled, axis=1)
    return float((normaliser - scaled[np.arange(len(scaled)), truth]).mean())


def smoothed_nll(nll: NDArray[np.floating], truth: NDArray[np.integer], temperature: float) -> float:
    """Mean cross-entropy (nats) with smoothed targets: the function that `fit_temperature` minimises."""
    scaled = -np.asarray(nll, dtype=np.float64) / temperature
    items, options = scaled.shape
    share = 1 / (items + options)
    others = options * np.logaddexp.reduce(scaled, axis=1) - scaled.sum(axis=1)
    return (1 - options * share) * mean_nll(nll, truth, temperature) + share * float(others.mean())


def fit_temperature(nll: NDArray[np.floating], truth: NDArray[np.integer]) -> tuple[float, float, float]:
    """Fit the temperature that makes the true options most likely (Guo et al., 2017, equation 9), smoothed.

    With n items and K options, the target is (n + 1) / (n + K) for the true option and 1 / (n + K) for each other one
    (Platt, 1999): that a model answers a few items correctly does not show that it is never wrong. The mean
    cross-entropy with these targets is convex in the inverse temperature, so there is one minimum in `RANGE`.

    Parameters
    ----------
    nll
        Negative log-likelihood of each option in nats, (items, options).
    truth
        Index of the true option, (items,).

    Returns
    -------
    temperature, nll_before, nll_after : float
        The last two are the mean negative log-likelihood of the true options in nats, without smoothing. Because of
        the smoothing, `nll_after` may be slightly above `nll_before`.

    Raises
    ------
    ValueError
        When there are no items, or a likelihood is not finite.
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
