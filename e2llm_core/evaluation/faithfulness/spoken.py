"""Generated answers of a model to one task, with the measures of the windows that they are about."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from e2llm_core.claims.claims import Claim, Statements, statements_in
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.wording import Reference
from e2llm_core.evaluation.faithfulness.metrics import Check
from e2llm_core.evaluation.faithfulness.numbers import Number, mean_of
from e2llm_core.evaluation.predictions import keys_of
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
    reference : str
        What the deviations are from.
    deviations : np.ndarray
        float32 (items, quantities) from the reference, in the model's own standard deviations.
    provenance : Provenance
        Provenance of the model's result rows.
    """

    rows: pd.DataFrame
    windows: np.ndarray
    quantities: tuple[Quantity, ...]
    reference: Reference
    deviations: np.ndarray
    provenance: Provenance

    @cached_property
    def texts(self) -> list[str]:
        """Generated texts, rationale and answer; empty if nothing was generated."""
        return [text or "" for text in self.rows["text"]]

    @cached_property
    def statements(self) -> list[Statements]:
        """Statements of each text about the signal."""
        return [statements_in(text) for text in self.texts]

    @cached_property
    def claims(self) -> list[tuple[Claim, ...]]:
        """Readable claims of each text, including those about quantities that do not exist."""
        return [said.claims for said in self.statements]

    @cached_property
    def column(self) -> dict[Quantity, int]:
        """Column of each quantity in `deviations`."""
        return {quantity: place for place, quantity in enumerate(self.quantities)}

    @property
    def subjects(self) -> np.ndarray:
        """Subject of each item (items,)."""
        found: np.ndarray = self.rows["subject"].to_numpy()
        return found

    @property
    def options(self) -> tuple[str, ...]:
        """Closed list of answers."""
        return tuple(self.rows["labels"].iloc[0])

    @property
    def keys(self) -> dict[str, Any]:
        """Values of `KEYS` in the result rows of these answers."""
        return keys_of(self.rows)

    def mean(
        self, check: Check, values: np.ndarray, items: np.ndarray, readout: str, chance: float | None = None
    ) -> list[Number]:
        """Mean of `values`, one for each of `items`, that were obtained by a readout; empty if there are no items."""
        keys = self.keys | {"readout": readout}
        return mean_of(check, values, self.subjects[items], keys, self.provenance, chance)
