"""claims.parquet: the claim behind every sentence, where it stands, and whether it holds."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.claim_rows import CLAIMS, SCHEMA, claim_rows, write_claims
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.summary import Provenance

ALPHA, BETA = Quantity("power", "alpha", "occipital"), Quantity("power", "beta", "central")
UNKNOWN = Quantity("power", "delta", "frontal midline")


def spoken(texts, deviations) -> Spoken:
    keys = {"task": "IED", "model": "4b", "condition": "eeg", "readout": "generation", "prompt": "primary"}
    items = [f"r/0/{number}" for number in range(len(texts))]
    rows = pd.DataFrame({**keys, "item_id": items, "subject": "s", "text": pd.Series(texts, dtype=object)})
    rows = rows.assign(answer="sad", truth="sad", labels=[("sad", "happy")] * len(texts))
    known = Provenance(split="test", split_digest="0")
    return Spoken(rows, np.arange(len(texts)), (ALPHA, BETA), "session", np.asarray(deviations), known)


def test_each_claim_is_where_its_text_says_it_and_has_its_verdict(tmp_path):
    said = [Claim(ALPHA, True), Claim(BETA, True), Claim(UNKNOWN, True), Claim(ALPHA, True, reference="population")]
    text = " ".join(claim.sentence() for claim in said) + " This points to sad."
    rows = claim_rows(spoken([text, None, "sad"], [[1.5, -0.5], [1, 1], [1, 1]]))
    assert rows["item_id"].tolist() == ["r/0/0"] * 4
    assert rows["number"].tolist() == [0, 1, 2, 3]
    assert rows["holds"].tolist() == [True, False, False, False]
    assert np.allclose(rows["deviation"], [1.5, -0.5, np.nan, 1.5], equal_nan=True)
    places = zip(rows["start"], rows["stop"], strict=True)
    assert [text[start:stop] for start, stop in places] == [claim.sentence().rstrip(".") for claim in said]
    fields = [name for name in SCHEMA.names if name in said[0].to_dict()]
    assert [Claim.from_dict(row, "claims.parquet") for row in rows[fields].to_dict("records")] == said
    write_claims(rows, tmp_path / CLAIMS)
    table = pq.read_table(tmp_path / CLAIMS)
    assert table.schema.equals(SCHEMA)
    assert table["deviation"].null_count == 1


def test_silence_has_no_rows(tmp_path):
    rows = claim_rows(spoken(["This points to sad."], [[1, 1]]))
    write_claims(rows, tmp_path / CLAIMS)
    assert pq.read_table(tmp_path / CLAIMS).num_rows == 0
