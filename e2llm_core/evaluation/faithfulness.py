"""Claim accuracy: the share of a rationale's statements about the signal that hold when measured."""

import numpy as np
import pandas as pd

from e2llm_core.evaluation.intervals import subject_interval
from e2llm_core.evaluation.summary import Provenance, ResultRow
from e2llm_core.language.claims import claims_in, share_that_holds
from e2llm_core.language.measures import Quantity


def claim_accuracy_row(
    predictions: pd.DataFrame,
    quantities: tuple[Quantity, ...],
    deviations: np.ndarray,
    provenance: Provenance,
) -> ResultRow | None:
    """Claim accuracy of generated IED answers.

    Its null is the same text held against other windows of the same subject for which the model gave the same answer:
    what phrases tied to an answer would score without looking at this window.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Generated answers of one condition, in the order of the windows.
    quantities : tuple of Quantity
        What was measured.
    deviations : np.ndarray
        (windows, quantities) in standard deviations.
    provenance : Provenance
        Of the row.

    Returns
    -------
    ResultRow or None
        None when no text makes a claim.
    """
    claims = [claims_in(text or "") for text in predictions["text"]]
    own = [share_that_holds(made, quantities, row) for made, row in zip(claims, deviations, strict=True)]
    other: list[float | None] = [None] * len(predictions)
    keys = ["subject", "answer"]
    for _, rows in predictions.reset_index(drop=True).groupby(keys):
        for place in rows.index:
            rest = [number for number in rows.index if number != place]
            shares = [share_that_holds(claims[place], quantities, deviations[number]) for number in rest]
            known = [share for share in shares if share is not None]
            other[place] = float(np.mean(known)) if known else None
    table = pd.DataFrame({"subject": predictions["subject"].to_numpy(), "own": own, "other": other}).dropna()
    if table.empty:
        return None
    by_subject = table.groupby("subject")["own"].mean().astype(float)
    value = float(table["own"].astype(float).mean())
    interval = subject_interval(by_subject.to_numpy(), centre=value, bounds=(0.0, 1.0))
    finite = [None if np.isnan(end) else float(end) for end in (interval.low, interval.high)]
    return ResultRow(
        task="IED",
        model="e2llm",
        condition="eeg",
        metric="claim_accuracy",
        value=value,
        ci_low=finite[0],
        ci_high=finite[1],
        chance=float(table["other"].astype(float).mean()),
        n=len(table),
        n_subjects=len(by_subject),
        readout="generation",
        ci_method=interval.method,
        primary=False,
        **provenance.model_dump(),
    )
