"""What a model said of the windows of one task, beside what was measured in them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from e2llm_core.claims.claims import Claim, Statements, statements_in
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.metrics import Check
from e2llm_core.evaluation.faithfulness.numbers import Number, mean_of
from e2llm_core.evaluation.predictions import KEYS
from e2llm_core.evaluation.summary import Provenance


@dataclass(frozen=True)
class Spoken:
    """Generated answers of one model to one task on the EEG, about one window each.

    Attributes
    ----------
    rows : pandas.DataFrame
        The predictions (items).
    windows : np.ndarray
        int64 (items,): numbers of the windows among those of the test side.
    quantities : tuple of Quantity
        What was measured.
    deviations : np.ndarray
        float32 (items, quantities) from the reference that claims speak of, in the model's own standard deviations.
    provenance : Provenance
        Of its rows.
    """

    rows: pd.DataFrame
    windows: np.ndarray
    quantities: tuple[Quantity, ...]
    deviations: np.ndarray
    provenance: Provenance

    @cached_property
    def texts(self) -> list[str]:
        """What was generated, rationale and answer; empty where nothing was."""
        return [text or "" for text in self.rows["text"]]

    @cached_property
    def statements(self) -> list[Statements]:
        """What each text says about the signal."""
        return [statements_in(text) for text in self.texts]

    @cached_property
    def claims(self) -> list[tuple[Claim, ...]]:
        """Readable claims of each text, also about quantities that do not exist."""
        return [said.claims for said in self.statements]

    @cached_property
    def column(self) -> dict[Quantity, int]:
        """Place of each quantity in `deviations`."""
        return {quantity: place for place, quantity in enumerate(self.quantities)}

    @property
    def subjects(self) -> np.ndarray:
        """Whose window each item shows (items,)."""
        found: np.ndarray = self.rows["subject"].to_numpy()
        return found

    @property
    def options(self) -> tuple[str, ...]:
        """The answers to choose from."""
        return tuple(self.rows["labels"].iloc[0])

    @property
    def keys(self) -> dict[str, Any]:
        """What results call this set of answers."""
        return {key: self.rows[key].iloc[0] for key in KEYS}

    def mean(
        self, check: Check, values: np.ndarray, items: np.ndarray, readout: str, chance: float | None = None
    ) -> list[Number]:
        """The mean of one value for each of some items, however they were read; nothing where there is none."""
        keys = self.keys | {"readout": readout}
        return mean_of(check, values, self.subjects[items], keys, self.provenance, chance)
