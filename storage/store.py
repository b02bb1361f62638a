"""The store: one data set as one Zarr v3 hierarchy of continuous recordings.

Layout::

    STORE/zarr.json                          attributes: format version, data set, label set
    STORE/recordings/<id>/signal/            int16 (n_chans, n_times), sharded, checksummed
    STORE/recordings/<id>/zarr.json          written last: a recording without it does not exist
    STORE/splits/<name>.json                 named splits with their digests
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from storage.errors import InputError
from storage.labels import LabelSet
from storage.recording import RecordingInfo, Trial, quantise

__all__ = [
    "RecordingInfo",
    "Store",
    "Trial",
    "create_store",
    "open_store",
    "quantise",
    "rows_of",
    "subjects_of",
]

FORMAT_VERSION = 1
CHUNK_SECONDS = 2.0
CHUNKS_PER_SHARD = 128


class Store:
    """A data set in Zarr, open for reading and for adding recordings.

    Parameters
    ----------
    root : Path
        Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        attributes = _attributes(root / "zarr.json")
        if attributes.get("e2llm_format") != FORMAT_VERSION:
            raise InputError(
                str(root),
                f"store format {attributes.get('e2llm_format')!r}, this version reads {FORMAT_VERSION}",
                "Ingest the data again.",
            )
        try:
            self.dataset = str(attributes["dataset"])
            self.label_set = LabelSet.model_validate(attributes["label_set"])
        except (KeyError, ValidationError) as error:
            raise _damaged(root / "zarr.json", error) from error

    @cached_property
    def recordings(self) -> Mapping[str, RecordingInfo]:
        """Visible recordings by id, in sorted order."""
        found = {}
        for path in sorted((self.root / "recordings").glob("*/zarr.json")):
            if (info := self.find(path.parent.name)) is not None:
                found[info.recording_id] = info
        return found

    def find(self, recording_id: str) -> RecordingInfo | None:
        """One recording as it is on disk now, whoever wrote it; None when it is not visible."""
        path = self.root / "recordings" / recording_id / "zarr.json"
        try:
            return RecordingInfo.model_validate(_attributes(path))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise _damaged(path, error) from error

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All trials, one row each, ordered by subject, session and trial."""
        rows = [
            {"recording_id": info.recording_id, "subject": info.subject, "session": info.session}
            | trial.model_dump(exclude={"intensity"})
            | {"label_id": -1 if trial.label is None else self.label_set.id_of(trial.label)}
            for info in self.recordings.values()
            for trial in info.trials
        ]
        if not rows:
            raise InputError(str(self.root), "the store holds no recording", "Run its ingest job first.")
        table = pd.DataFrame(rows)
        return table.sort_values(["subject", "session", "recording_id", "trial"], ignore_index=True)

    @property
    def digest(self) -> str:
        """SHA-256 over all recordings' identities: equal stores came from equal sources in equal ways."""
        parts = [[name, info.ingest_digest] for name, info in self.recordings.items()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def require_labels(self) -> None:
        """Raise `InputError` unless every trial has a label."""
        missing = self.trials["label"].isna()
        if missing.any():
            where = self.trials.loc[missing, "recording_id"].iloc[0]
            raise InputError(
                str(self.root),
                f"{int(missing.sum())} of {len(missing)} trials have no label (first: {where})",
                "Ingest with labels, or score it instead.",
            )

    def signal_path(self, recording_id: str) -> Path:
        """Folder of a recording's int16 (n_chans, n_times) array."""
        return self.root / "recordings" / recording_id / "signal"

    def write_recording(self, info: RecordingInfo, signal_uv: np.ndarray) -> RecordingInfo:
        """Add or replace one recording; it becomes visible by its last, atomic write.

        Parameters
        ----------
        info : RecordingInfo
            `scale_uv` is filled in here.
        signal_uv : np.ndarray
            (n_chans, n_times) in µV.

        Raises
        ------
        InputError
            When samples are not finite or the shape contradicts `info`.
        """
        import zarr

        if signal_uv.shape != (len(info.channels), info.n_times):
            raise InputError(info.recording_id, f"signal {signal_uv.shape} is not channels x times", "Fix its reader.")
        if signal_uv.size == 0:
            raise InputError(info.recording_id, "holds no sample", "Drop the recording.")
        if not np.isfinite(signal_uv).all():
            raise InputError(info.recording_id, "signal holds NaN or infinite samples", "Repair or drop the recording.")
        folder = self.root / "recordings" / info.recording_id
        self._forget()
        (folder / "zarr.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        steps, scale = quantise(signal_uv)
        _write_signal(self.signal_path(info.recording_id), steps, info.sfreq_hz)
        written = info.model_copy(update={"scale_uv": tuple(float(step) for step in scale)})
        zarr.create_group(folder, attributes=written.model_dump(mode="json"))
        self._forget()
        return written

    def _forget(self) -> None:
        self.__dict__.pop("recordings", None)
        self.__dict__.pop("trials", None)


def _write_signal(path: Path, steps: np.ndarray, sfreq_hz: float) -> None:
    import zarr
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

    n_chans, n_times = steps.shape
    chunk = max(1, round(CHUNK_SECONDS * sfreq_hz))
    shard = chunk * min(CHUNKS_PER_SHARD, -(-n_times // chunk))
    array = zarr.create_array(
        path,
        shape=steps.shape,
        chunks=(n_chans, chunk),
        shards=(n_chans, shard),
        dtype="int16",
        serializer=BytesCodec(),
        compressors=[BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=("channel", "time"),
        config={"write_empty_chunks": True},  # a missing chunk is then always a damage, never silence
    )
    array[:] = steps


def _attributes(path: Path) -> dict[str, Any]:
    try:
        attributes = json.loads(path.read_text()).get("attributes", {})
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise _damaged(path, error) from error
    return dict(attributes)


def _damaged(path: Path, error: Exception) -> InputError:
    problem = str(error).splitlines()[0]
    return InputError(str(path), f"is damaged ({problem})", "Delete its folder and run the ingest job again.")


def create_store(root: str | Path, *, dataset: str, label_set: LabelSet) -> Store:
    """Create a store or open the one that is there, if it is of the same data set and label set.

    Raises
    ------
    InputError
        When a different store, or something that is no store, is in the way, or the folder cannot be written.
    """
    root = Path(root)
    if not (root / "zarr.json").exists():
        _create(root, dataset, label_set)
    store = Store(root)
    if (store.dataset, store.label_set) != (dataset, label_set):
        raise InputError(
            str(root),
            f"holds data set {store.dataset} with labels {', '.join(store.label_set.names)}",
            "Choose another store folder.",
        )
    return store


def _create(root: Path, dataset: str, label_set: LabelSet) -> None:
    """Write an empty store, which another process may do just now, or may have begun and been killed."""
    import zarr
    from zarr.errors import ContainsGroupError

    attributes = {
        "e2llm_format": FORMAT_VERSION,
        "dataset": dataset,
        "label_set": label_set.model_dump(mode="json"),
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        foreign = [path for path in root.iterdir() if not _is_ours(path)]
        if foreign:
            raise InputError(
                str(root),
                f"is a folder with other content ({foreign[0].name})",
                "Choose another store folder.",
            )
        with contextlib.suppress(ContainsGroupError):
            zarr.create_group(root / "recordings")
        with contextlib.suppress(ContainsGroupError):
            zarr.create_group(root, attributes=attributes)
    except OSError as error:
        raise InputError(str(root), f"cannot be written ({error.strerror})", "Choose another store folder.") from error


def _is_ours(path: Path) -> bool:
    if path.name == "recordings" and path.is_dir():
        return (path / "zarr.json").exists() or all(_is_ours(child) for child in path.iterdir())
    return path.name.startswith("zarr.")


def open_store(root: str | Path) -> Store:
    """Open a store for reading.

    Raises
    ------
    InputError
        When there is no store at `root`.
    """
    root = Path(root)
    if not (root / "zarr.json").exists():
        raise InputError(str(root), "no EEG store here", "Run its ingest job first, or correct `store:`.")
    return Store(root)


def subjects_of(trials: pd.DataFrame) -> list[str]:
    """Distinct subjects of a trial table, sorted."""
    return sorted(trials["subject"].unique())


def rows_of(trials: pd.DataFrame, subjects: Iterable[str]) -> pd.DataFrame:
    """Keep the rows of a trial table that belong to `subjects`, re-indexed."""
    return trials[trials["subject"].isin(list(subjects))].reset_index(drop=True)
