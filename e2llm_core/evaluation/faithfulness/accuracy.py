"""Claim accuracy: the share of a rationale's statements about the signal that hold when measured."""

import numpy as np
import pandas as pd

from e2llm_core.claims.claims import Statements, statements_in
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.wording import Reference
from e2llm_core.evaluation.faithfulness.metrics import CLAIM_ACCURACY
from e2llm_core.evaluation.faithfulness.numbers import Number, mean_of
from e2llm_core.evaluation.predictions import keys_of
from e2llm_core.evaluation.summary import Provenance

_POOLS: tuple[tuple[str, ...], ...] = (("subject", "answer"), ("subject",), ())
"""Columns that the null's windows share with the rationale's own; the first choice that has another window is used."""


def claim_accuracy(
    predictions: pd.DataFrame,
    quantities: tuple[Quantity, ...],
    reference: Reference,
    deviations: np.ndarray,
    provenance: Provenance,
) -> Number:
    """Claim accuracy of generated answers: the mean over all rationales of the share of statements that hold.

    A sentence about the signal in no form of a claim does not hold, nor does a claim about what was not measured here,
    or one that compares with something other than `reference`.
    A rationale without any statement counts as 0: silence about a window cannot raise the value.

    The null checks the same text against other windows of the same subject for which the model gave the same answer
    (answers that cannot be read count as one answer): what phrases tied to an answer would score without looking at
    this window. If there is no such window, all other windows of the subject are used; if there is none either, those
    of all subjects.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Generated answers of one model to one task on the EEG, about one segment each, in the order of the windows.
    quantities : tuple of Quantity
        Measured quantities, in the order of the columns of `deviations`.
    reference : str
        What the deviations are from.
    deviations : np.ndarray
        (windows, quantities), above 0 where a quantity is above its reference.
    provenance : Provenance
        Provenance of the row.

    Returns
    -------
    Number
        Its `n` is the number of answers; `chance` is null if there is only one window.
    """
    statements = [statements_in(text or "") for text in predictions["text"]]
    own, other = shares_that_hold(statements, quantities, reference, deviations, predictions)
    chance = None if np.isnan(other).all() else float(np.nanmean(other))
    keys = keys_of(predictions)
    (number,) = mean_of(CLAIM_ACCURACY, own, predictions["subject"].to_numpy(), keys, provenance, chance)
    return number


def shares_that_hold(
    statements: list[Statements],
    quantities: tuple[Quantity, ...],
    reference: Reference,
    deviations: np.ndarray,
    groups: pd.DataFrame,
) -> tuple[np.ndarray, np.ndarray]:
    """Share of each rationale's statements that hold in its own window, and on average in its null's windows.

    A claim of sign c about a quantity of sign s holds ``(1 + c s) / 2`` times. Sums over claims and windows are
    therefore products of integer matrices: exact, and linear in the number of windows.

    Parameters
    ----------
    statements : list of Statements
        Statements of each window's rationale.
    quantities : tuple of Quantity
        Measured quantities, in the order of the columns of `deviations`.
    reference : str
        What the deviations are from; a claim that names another one does not hold.
    deviations : np.ndarray
        (windows, quantities), above 0 where a quantity is above its reference.
    groups : pandas.DataFrame
        Columns subject and answer, one row per window.

    Returns
    -------
    tuple of np.ndarray
        Two arrays (windows,). The second is NaN for a window without any other window to compare with.
    """
    column = {quantity: number for number, quantity in enumerate(quantities)}
    claimed = np.zeros(deviations.shape, dtype=np.int64)
    known = np.zeros(len(statements), dtype=np.int64)
    for row, said in enumerate(statements):
        for claim in said.claims:
            if claim.quantity in column and claim.reference == reference:
                claimed[row, column[claim.quantity]] += 1 if claim.above else -1
                known[row] += 1
    signs = np.where(deviations > 0, 1, -1)
    made = np.maximum([len(said) for said in statements], 1)
    own = (known + (claimed * signs).sum(axis=1)) / 2 / made
    other = np.full(len(own), np.nan)
    for keys in _POOLS:
        code = groups.groupby(list(keys), dropna=False).ngroup().to_numpy() if keys else np.zeros(len(own), np.int64)
        size = np.bincount(code)[code] - 1
        elsewhere = pd.DataFrame(signs).groupby(code).transform("sum").to_numpy() - signs
        held = (known * size + (claimed * elsewhere).sum(axis=1)) / 2 / made
        np.divide(held, size, out=other, where=np.isnan(other) & (size > 0))
    return own, other
