"""The table of predictions: one row per task, model, condition, readout, prompt and item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from e2llm_core.tasks.items import EEG, SEGMENT_FIELDS
from e2llm_core.tasks.question import Prompt
from storage.errors import InputError
from storage.places.files import write_bytes

KEYS = ("task", "model", "condition", "readout", "prompt")
"""Columns that identify a set of answers; `prompt` is null where no question was read."""

ITEM_COLUMNS = ("item_id", "subject", "session", "segments")
"""Columns that describe the item; `segments` has a dict of `SEGMENT_FIELDS` for each segment that it shows."""

COLUMNS = (*KEYS, *ITEM_COLUMNS, "truth", "answer", "probabilities", "labels", "listed", "text", "seed")
"""All columns of predictions.parquet, in order."""


def keys_of(rows: pd.DataFrame) -> dict[str, Any]:
    """What names one set of answers: its values of `KEYS`."""
    first = rows.iloc[0]
    return {name: None if pd.isna(first[name]) else first[name] for name in KEYS}


def matching(table: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of a table whose columns have these values; None stands for null."""
    columns = (table[name].isna() if value is None else table[name] == value for name, value in wanted.items())
    return table[np.logical_and.reduce(list(columns))]


def prediction_rows(
    items: pd.DataFrame,
    *,
    task: str,
    model: str,
    condition: str,
    labels: Sequence[str],
    answers: Sequence[str | None] | NDArray[Any],
    readout: str = "likelihood",
    prompt: Prompt | None = None,
    probabilities: NDArray[Any] | None = None,
    texts: Sequence[str | None] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Build the rows of one set of answers.

    Parameters
    ----------
    items
        One row per item with the columns `ITEM_COLUMNS` and ``label``, the true answer; ``listed``, if the question
        differs from item to item, what it says of the item.
    task, model, condition, readout
        Task, name of the model, condition that it answered under, and how its answer was read: ``"generation"`` from
        text, ``"likelihood"`` as the label with the highest score.
    prompt
        How the question was worded; None for what reads no question.
    labels
        The label set, in the order of `probabilities`.
    answers
        One answer per item; what is not in `labels` is stored as null.
    probabilities
        Shape (n_items, n_labels); scores that sum to one. Null if the model has none.
    texts
        The generated text, rationale included.
    seed
        The seed of the run.

    Raises
    ------
    ValueError
        If a column is missing or the lengths disagree.
    InputError
        If a probability is not finite: no answer can be read from it.
    """
    missing = [name for name in (*ITEM_COLUMNS, "label") if name not in items]
    if missing:
        raise ValueError(f"the table of items lacks the columns {missing}")
    n_items, known = len(items), set(labels)
    for name, given in (("answers", answers), ("probabilities", probabilities), ("texts", texts)):
        if given is not None and len(given) != n_items:
            raise ValueError(f"{n_items} items but {len(given)} {name}")
    if probabilities is not None and not np.isfinite(np.asarray(probabilities, float)).all():
        remedy = "Its weights or the signal that it reads are not finite: check the losses of its training."
        raise InputError(f"{model} on {task}", "a probability is not finite", remedy)
    rows = items.reset_index(drop=True).reindex(columns=list(ITEM_COLUMNS))
    rows["item_id"] = rows["item_id"].astype(str)
    rows["truth"] = items["label"].astype(str).to_numpy()
    rows["answer"] = pd.Series([name if name in known else None for name in answers], dtype=object)
    rows["probabilities"] = pd.Series(
        [None] * n_items if probabilities is None else [np.asarray(row, float).tolist() for row in probabilities],
        dtype=object,
    )
    rows["labels"] = pd.Series([list(labels)] * n_items, dtype=object)
    rows["listed"] = pd.Series(items["listed"].tolist() if "listed" in items else [None] * n_items, dtype=object)
    rows["text"] = pd.Series([None] * n_items if texts is None else list(texts), dtype=object)
    for name, value in zip(KEYS, (task, model, condition, readout, prompt), strict=True):
        rows[name] = value
    rows["seed"] = seed
    return rows[list(COLUMNS)]


def most_probable(
    items: pd.DataFrame, probabilities: NDArray[Any], *, task: str, model: str, labels: Sequence[str], seed: int
) -> pd.DataFrame:
    """Build the rows of a reference that sees the EEG and answers with the label of the highest probability.

    The parameters are those of `prediction_rows`.
    """
    return prediction_rows(
        items,
        task=task,
        model=model,
        condition=EEG,
        labels=labels,
        answers=np.array(labels, dtype=object)[probabilities.argmax(axis=1)],
        probabilities=probabilities,
        seed=seed,
    )


def check_predictions(predictions: pd.DataFrame) -> None:
    """Refuse a table that is not a table of predictions.

    Raises
    ------
    ValueError
        If a column is missing, or an item occurs twice in one set of answers.
    """
    missing = [name for name in COLUMNS if name not in predictions]
    if missing:
        raise ValueError(f"the table of predictions lacks the columns {missing}")
    keys = [*KEYS, "item_id"]
    twice = predictions.duplicated(keys)
    if twice.any():
        first = predictions.loc[twice, keys].iloc[0].to_dict()
        raise ValueError(f"{int(twice.sum())} predictions occur twice, the first is {first}")


def _schema(predictions: pd.DataFrame) -> pa.Schema:
    """Arrow schema: explicit, so that a column of nulls keeps its type."""
    identifiers = {
        name: pa.int64() if pd.api.types.is_integer_dtype(predictions[name]) else pa.string()
        for name in ("subject", "session")
    }
    numbers = {name: pa.int64() for name in ("trial", "clip", "start", "stop", "position")}
    segment = pa.struct([(name, (identifiers | numbers).get(name, pa.string())) for name in SEGMENT_FIELDS])
    others = {
        "segments": pa.list_(segment),
        "probabilities": pa.list_(pa.float64()),
        "labels": pa.list_(pa.string()),
        "seed": pa.int64(),
    }
    return pa.schema([(name, (identifiers | others).get(name, pa.string())) for name in COLUMNS])


def encoded(table: pa.Table) -> bytes:
    """Content of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def to_parquet(predictions: pd.DataFrame) -> bytes:
    """Encode the table as the content of a Parquet file.

    Raises
    ------
    ValueError
        If `check_predictions` refuses the table.
    """
    check_predictions(predictions)
    table = pa.Table.from_pandas(predictions[list(COLUMNS)], schema=_schema(predictions), preserve_index=False)
    return encoded(table)


def from_parquet(content: bytes) -> pd.DataFrame:
    """Read a table that `to_parquet` encoded."""
    predictions = pq.read_table(pa.BufferReader(content)).to_pandas()
    check_predictions(predictions)
    return predictions


def write_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write the table as Parquet, atomically; raises as `to_parquet`."""
    write_bytes(path, to_parquet(predictions))


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a table that `write_predictions` wrote; raises as `stored_predictions`."""
    return stored_predictions(path.read_bytes(), str(path))


def stored_predictions(content: bytes, place: str) -> pd.DataFrame:
    """Read a table from the content of the file at `place`.

    Raises
    ------
    InputError
        If it lacks columns of this version.
    ValueError
        If `check_predictions` refuses the table.
    """
    if missing := set(COLUMNS) - set(pq.read_schema(pa.BufferReader(content)).names):
        problem = f"is of another version: it lacks the columns {', '.join(sorted(missing))}"
        raise InputError(place, problem, "Evaluate the model again.")
    return from_parquet(content)
