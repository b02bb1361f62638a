"""Sufficiency: how well the label can be predicted from the claims alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.naive_bayes import CategoricalNB

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.evaluation.faithfulness.metrics import CLAIM_SUFFICIENCY
from e2llm_core.evaluation.faithfulness.numbers import Number
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.metrics import CLOSED_SET
from e2llm_core.evaluation.summary import rows_for, subject_scores_for
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.language import ClaimedWindows, means_for
from e2llm_core.tasks.facts import ClaimChoice
from storage.sampling.order import Permutation

MAX_WINDOWS = 4096
"""Largest number of training windows that the reader is fitted to; of more windows, a fixed random sample."""

_NOT_SAID, _ABOVE, _BELOW = range(3)
_READ = 256


@dataclass(frozen=True)
class ClaimReader:
    """A reader that sees claims and no signal: naive Bayes over quantity x {not said, above, below}.

    All labels have the same prior probability.

    Attributes
    ----------
    quantities : tuple of Quantity
        Quantities that the reader knows; it ignores claims about others.
    model : CategoricalNB
        Fitted.
    """

    quantities: tuple[Quantity, ...]
    model: CategoricalNB

    @classmethod
    def fit(
        cls, quantities: tuple[Quantity, ...], said: Sequence[Sequence[Claim]], labels: Sequence[str]
    ) -> "ClaimReader":
        """Fit to windows: the claims about each, and their true labels."""
        model = CategoricalNB(min_categories=3, fit_prior=False)
        return cls(quantities, model.fit(_coded(quantities, said), np.asarray(labels, dtype=object).astype(str)))

    def read(self, said: Sequence[Sequence[Claim]]) -> list[str]:
        """The most probable label of each set of claims."""
        return [str(label) for label in self.model.predict(_coded(self.quantities, said))]


def training_claims(data: EEGData, scaler: QuantityScaler) -> tuple[list[list[Claim]], list[str]]:
    """Claims that the training stages make about training windows, and the labels of these windows.

    The claims are those of `ClaimChoice`'s defaults, as in the training texts of stages 2 and 3 by default.
    """
    choice = ClaimChoice()
    source = ClaimedWindows(data, data.split.train, scaler, choice, means_for(choice, data, scaler))
    count = len(source)
    ids = np.arange(count)
    if count > MAX_WINDOWS:
        ids = np.sort(Permutation(count, 0)(np.arange(MAX_WINDOWS)))
    said: list[list[Claim]] = []
    for part in np.split(ids, range(_READ, len(ids), _READ)):
        source.deviations(part)
        said += [list(source.facts(window).claims) for window in part.tolist()]
    return said, [source.label(window) for window in ids.tolist()]


def sufficiency(spoken: Spoken, reader: ClaimReader) -> list[Number]:
    """Balanced accuracy of the reader on the generated claims; a rationale without claims is read as naming nothing."""
    read = spoken.rows.assign(answer=reader.read(spoken.claims))
    balanced = CLOSED_SET[:1]
    where = spoken.keys
    (row,) = rows_for(read, **where, provenance=spoken.provenance, metrics=balanced)
    scores = subject_scores_for(read, **where, metrics=balanced)
    name = {"metric": CLAIM_SUFFICIENCY.name}
    return [Number(row.model_copy(update=name), [score.model_copy(update=name) for score in scores])]


def _coded(quantities: Sequence[Quantity], said: Sequence[Sequence[Claim]]) -> np.ndarray:
    """(windows, quantities): whether each is named, and how; of two claims about one the last counts."""
    column = {quantity: place for place, quantity in enumerate(quantities)}
    coded = np.full((len(said), len(quantities)), _NOT_SAID, dtype=np.int64)
    for row, claims in enumerate(said):
        for claim in claims:
            if claim.quantity in column:
                coded[row, column[claim.quantity]] = _ABOVE if claim.above else _BELOW
    return coded
