"""Registry of baselines. Light to import: the packages that a baseline computes with are imported by `load`.

A new baseline is a file in this folder that defines `BASELINE`, and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from e2llm_core.evaluation.references.baselines.base import Baseline


@dataclass(frozen=True)
class BaselineEntry:
    """A baseline that a spec can name.

    Attributes
    ----------
    name : str
        Name in specs and results, and of the baseline's file.
    title : str
        Name in the report.
    """

    name: str
    title: str

    def load(self) -> Baseline:
        """Import the baseline."""
        module = import_module(f"e2llm_core.evaluation.references.baselines.{self.name}")
        return cast("Baseline", module.BASELINE)


BASELINES: dict[str, BaselineEntry] = {
    entry.name: entry
    for entry in (
        BaselineEntry("de_svm", "DE + linear SVM"),
        BaselineEntry("de_lr", "DE + logistic regression"),
        BaselineEntry("power_lr", "relative band power + logistic regression"),
        BaselineEntry("riemann_lr", "Riemannian tangent space + logistic regression"),
        BaselineEntry("eegnet", "EEGNet"),
        BaselineEntry("shallow_convnet", "shallow ConvNet"),
    )
}
"""Baselines by name."""

DEFAULT_BASELINES = ("de_svm",)
"""Baselines of a spec that names none."""
