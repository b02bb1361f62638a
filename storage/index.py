"""The recordings and trials of a store as two Parquet tables: a store of 10^5 recordings opens by two reads.

The tables repeat what the recordings' own descriptions say. Whoever changes a recording removes them first, so
tables that are there are true; they are also compared with the names of the recordings that are there.
"""

import io
import json
from collections.abc import Sequence

import google_crc32c
import pandas as pd

from storage.labels import LabelSet
from storage.places.base import Location
from storage.recording import RecordingInfo

_RECORDINGS = "index/recordings.parquet"
_TRIALS = "index/trials.parquet"
_CHECKSUMS = "index/checksums.json"
_CATALOGUE = ("recording_id", "subject", "session", "sfreq_hz", "n_times", "channels", "signal", "ingest_digest")
_TRIAL_COLUMNS = ("trial", "position", "clip", "start", "stop", "label")


def tables(recordings: Sequence[RecordingInfo], label_set: LabelSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate recordings.

    Returns
    -------
    catalogue : pandas.DataFrame
        One row per recording, ordered by id; `channels` joined by commas.
    trials : pandas.DataFrame
        One row per trial with its `label_id` (-1 without label), ordered by subject, session, recording and trial.
    """
    rows = [[getattr(info, name) for name in _CATALOGUE] for info in recordings]
    catalogue = pd.DataFrame(rows, columns=list(_CATALOGUE))
    catalogue["channels"] = [",".join(names) for names in catalogue["channels"]]
    trial_rows = [
        [info.recording_id, info.subject, info.session, *(getattr(trial, name) for name in _TRIAL_COLUMNS)]
        for info in recordings
        for trial in info.trials
    ]
    trials = pd.DataFrame(trial_rows, columns=["recording_id", "subject", "session", *_TRIAL_COLUMNS])
    trials["label"] = trials["label"].astype("str") if trials["label"].notna().any() else trials["label"]
    ids = {label: label_set.id_of(label) for label in trials["label"].dropna().unique()}
    trials["label_id"] = trials["label"].map(ids).fillna(-1).astype("int64")
    order = ["subject", "session", "recording_id", "trial"]
    return catalogue.sort_values("recording_id", ignore_index=True), trials.sort_values(order, ignore_index=True)


def read(root: Location, names: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Read the tables, if they are there, whole, and speak of the recordings `names` (sorted)."""
    try:
        checksums = json.loads(root.read(_CHECKSUMS))
        contents = {key: root.read(key) for key in (_RECORDINGS, _TRIALS)}
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if checksums != {key: google_crc32c.value(content) for key, content in contents.items()}:
        return None
    catalogue, trials = (pd.read_parquet(io.BytesIO(contents[key])) for key in (_RECORDINGS, _TRIALS))
    return (catalogue, trials) if catalogue["recording_id"].tolist() == list(names) else None


def write(root: Location, catalogue: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Write the tables; their checksums last, since `read` looks for them."""
    contents = {key: table.to_parquet(index=False) for key, table in ((_TRIALS, trials), (_RECORDINGS, catalogue))}
    for key, content in contents.items():
        root.write(key, content)
    root.write(
        _CHECKSUMS, json.dumps({key: google_crc32c.value(content) for key, content in contents.items()}).encode()
    )


def forget(root: Location) -> None:
    """Make the tables void, before a recording changes."""
    root.remove(_CHECKSUMS)
