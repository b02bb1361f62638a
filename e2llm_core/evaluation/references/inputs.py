"""What references are made from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from e2llm_core.evaluation.references.baseline import Baseline
from e2llm_core.stages.data import EEGData
from storage.twin import TwinConfig


@dataclass(frozen=True)
class ReferenceInputs:
    """What the references of all tasks share.

    Attributes
    ----------
    data : EEGData
        Store, windows and split.
    model : Path
        Model directory that is evaluated.
    seed : int
        Of solvers and drawn items.
    twin : TwinConfig or None
        Of the synthetic twin, where the data are one.
    """

    data: EEGData
    model: Path
    seed: int
    twin: TwinConfig | None = None

    @cached_property
    def baseline(self) -> Baseline:
        """The classical baseline; raises InputError where the split leaves nobody to choose its cost."""
        return Baseline(self.data, self.seed)
