"""claims.parquet: every claim of generated answers, each with what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from e2llm_core.claims.claims import said_in
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.predictions import encoded
from storage.places.files import write_bytes

CLAIMS = "claims.parquet"

_TEXT, _NUMBER = pa.string(), pa.int64()
SCHEMA = pa.schema(
    {
        "task": _TEXT,
        "model": _TEXT,
        "prompt": _TEXT,
        "item_id": _TEXT,
        "number": _NUMBER,
        "start": _NUMBER,
        "stop": _NUMBER,
        "table": _NUMBER,
        "kind": _TEXT,
        "band": _TEXT,
        "region": _TEXT,
        "above": pa.bool_(),
        "strength": _TEXT,
        "reference": _TEXT,
        "deviation": pa.float64(),
        "holds": pa.bool_(),
    }
)
"""Columns: the answer, as in predictions.parquet; the claim's number in its text, its first character there and the one
after its last; the claim, as `Claim.to_dict` has it; the measured deviation in standard deviations, null where this was
not measured; whether the claim holds."""


def claim_rows(spoken: Spoken) -> pd.DataFrame:
    """A row for each claim of each answer, with the columns of `SCHEMA`.

    A claim about what was not measured, or with another reference, does not hold, as in
    `e2llm_core.evaluation.faithfulness.accuracy`.
    """
    asked = {name: spoken.keys[name] for name in ("task", "model", "prompt")}
    rows = []
    for item, text, deviations in zip(spoken.rows["item_id"], spoken.texts, spoken.deviations, strict=True):
        for number, said in enumerate(said_in(text)):
            claim, column = said.claim, spoken.column.get(said.claim.quantity)
            measured = np.nan if column is None else float(deviations[column])
            holds = claim.reference == spoken.reference and not np.isnan(measured) and (measured > 0) == claim.above
            rows.append(
                asked
                | {"item_id": item, "number": number, "start": said.span[0], "stop": said.span[1]}
                | claim.to_dict()
                | {"deviation": measured, "holds": holds}
            )
    return pd.DataFrame(rows, columns=SCHEMA.names)


def write_claims(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows as Parquet, atomically."""
    write_bytes(path, encoded(pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)))
