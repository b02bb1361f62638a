"""The store: one data set as one Zarr v3 hierarchy of continuous recordings.

Layout::

    STORE/zarr.json                          attributes: format version, data set, label set
    STORE/recordings/<id>/signal-<hash>/     int16 or float32 (n_chans, n_times), sharded, checksummed
    STORE/recordings/<id>/zarr.json          written last: it names the signal, without it there is no recording
    STORE/index/                             the recordings and trials as tables; made anew when it does not fit
    STORE/damage.json                        what `e2llm verify` found
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
from pydantic import ValidationError

from storage import index
from storage.errors import InputError
from storage.labels import LabelSet
from storage.layout import write_signal
from storage.places.base import Location
from storage.places.location import locate
from storage.places.lock import LOCKS
from storage.recording import RecordingInfo, Trial, encode, quantise

__all__ = ["RecordingInfo", "Store", "Trial", "create_store", "open_store", "quantise", "subjects_of"]

FORMAT_VERSION = 2
_READERS = 16
_CHECKSUM = "crc32c"


class Store:
    """A data set in Zarr, open for reading and for adding recordings.

    Parameters
    ----------
    root : Location
        Folder or URL of the store.
    """

    def __init__(self, root: Location) -> None:
        self.root = root
        try:
            attributes = _attributes(root, "zarr.json")
        except FileNotFoundError as error:
            raise InputError(
                str(root), "no EEG store here", "Run its ingest job first, or correct `store:`."
            ) from error
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
            raise _damaged(root, "zarr.json", error) from error

    @cached_property
    def recordings(self) -> Mapping[str, RecordingInfo]:
        """Visible recordings by id, in sorted order; each is read when it is asked for."""
        return _Recordings(self, self.catalogue["recording_id"].tolist())

    def find(self, recording_id: str) -> RecordingInfo | None:
        """One recording as it is stored now, whoever wrote it; None when it is not visible."""
        key = f"recordings/{recording_id}/zarr.json"
        try:
            attributes = _attributes(self.root, key)
            if attributes.pop(_CHECKSUM, None) != _checksum(attributes):
                raise _damaged(self.root, key, ValueError("its checksum does not match"))
            return RecordingInfo.model_validate(attributes)
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise _damaged(self.root, key, error) from error

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """One row per visible recording, with what cutting windows needs, without reading each description."""
        return self._tables[0]

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All trials, one row each, ordered by subject, session, recording and trial."""
        trials = self._tables[1]
        if trials.empty:
            raise InputError(str(self.root), "the store holds no recording", "Run its ingest job first.")
        return trials

    @cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        names = self.root.folders("recordings")
        return index.read(self.root, names) or index.tables(self._described(names), self.label_set)

    def _described(self, names: list[str]) -> list[RecordingInfo]:
        with ThreadPoolExecutor(_READERS) as pool:
            return [info for info in pool.map(self.find, names) if info is not None]

    def write_index(self) -> None:
        """Write the tables of recordings and trials, so that opening does not read every description."""
        self.forget()
        names = self.root.folders("recordings")
        index.write(self.root, *index.tables(self._described(names), self.label_set))
        self.forget()

    @property
    def digest(self) -> str:
        """SHA-256 over all recordings' identities: equal stores came from equal sources in equal ways."""
        parts = self.catalogue[["recording_id", "ingest_digest"]].to_numpy().tolist()
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

    def signal_key(self, info: RecordingInfo) -> str:
        """Key of a recording's (n_chans, n_times) array in the store."""
        return f"recordings/{info.recording_id}/{info.signal}"

    def write_recording(
        self, info: RecordingInfo, signal_uv: np.ndarray, confirm: Callable[[], None] = lambda: None
    ) -> RecordingInfo:
        """Add or replace one recording; it becomes visible, or takes the old one's place, by one atomic write.

        Parameters
        ----------
        info : RecordingInfo
            `signal`, `scale_uv` and `offset_uv` are filled in here.
        signal_uv : np.ndarray
            (n_chans, n_times) in µV.
        confirm : callable, optional
            Raises when the store is no longer this writer's; called before anything is removed or made visible.

        Raises
        ------
        InputError
            When samples are not finite, the shape contradicts `info`, or the place cannot be written.
        """
        if signal_uv.shape != (len(info.channels), info.n_times):
            raise InputError(info.recording_id, f"signal {signal_uv.shape} is not channels x times", "Fix its reader.")
        if signal_uv.size == 0:
            raise InputError(info.recording_id, "holds no sample", "Drop the recording.")
        if not np.isfinite(signal_uv).all():
            raise InputError(info.recording_id, "signal holds NaN or infinite samples", "Repair or drop the recording.")
        with self.root.writing(f"recording {info.recording_id}"):
            written = self._replace(info, signal_uv, confirm)
        self.forget()
        return written

    def _replace(self, info: RecordingInfo, signal_uv: np.ndarray, confirm: Callable[[], None]) -> RecordingInfo:
        confirm()
        folder = f"recordings/{info.recording_id}"
        previous = self.find(info.recording_id)
        kept = previous.signal if previous else ""
        for name in self.root.folders(folder):
            if name != kept:
                self.root.remove(f"{folder}/{name}")
        written = self._write_samples(info, signal_uv, _signal_name(info, kept))
        confirm()
        index.forget(self.root)
        attributes = written.model_dump(mode="json")
        self.root.write(f"{folder}/zarr.json", _group(attributes | {_CHECKSUM: _checksum(attributes)}))
        if kept:
            self.root.remove(f"{folder}/{kept}")
        return written

    def _write_samples(self, info: RecordingInfo, signal_uv: np.ndarray, name: str) -> RecordingInfo:
        info, samples = encode(info, signal_uv)
        folder = f"recordings/{info.recording_id}"
        try:
            write_signal(self.root.zarr(f"{folder}/{name}"), samples, info.sfreq_hz, info.layout)
            self.root.settle(f"{folder}/{name}")
        except Exception:
            with suppress(OSError, InputError):  # what is to be told is why writing failed
                self.root.remove(f"{folder}/{name}")
            raise
        return info.model_copy(update={"signal": name})

    def remove_recording(self, recording_id: str) -> None:
        """Remove a recording from the store, its description first."""
        index.forget(self.root)
        self.root.remove(f"recordings/{recording_id}/zarr.json")
        self.root.remove(f"recordings/{recording_id}")
        self.forget()

    def forget(self) -> None:
        """Read the store's content again when it is next used."""
        for name in ("recordings", "catalogue", "trials", "_tables"):
            self.__dict__.pop(name, None)


class _Recordings(Mapping[str, RecordingInfo]):
    def __init__(self, store: Store, names: list[str]) -> None:
        self._store, self._names = store, dict.fromkeys(names)
        self._read: dict[str, RecordingInfo] = {}

    def __getitem__(self, name: str) -> RecordingInfo:
        if name not in self._read:
            if name not in self._names or (info := self._store.find(name)) is None:
                raise KeyError(name)
            self._read[name] = info
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _group(attributes: Mapping[str, Any]) -> bytes:
    """Metadata document of a Zarr v3 group."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=1).encode()


def _signal_name(info: RecordingInfo, previous: str) -> str:
    """A name that differs from the one it replaces; equal histories give equal names."""
    text = json.dumps([previous, info.ingest_digest, info.layout.model_dump()])
    return f"signal-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _checksum(attributes: Mapping[str, Any]) -> int:
    return int(google_crc32c.value(json.dumps(attributes, sort_keys=True).encode()))


def _attributes(root: Location, key: str) -> dict[str, Any]:
    try:
        return dict(json.loads(root.read(key)).get("attributes", {}))
    except (ValueError, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(root, key, error) from error


def _damaged(root: Location, key: str, error: Exception) -> InputError:
    problem = str(error).splitlines()[0]
    return InputError(f"{root}/{key}", f"is damaged ({problem})", "Delete its folder and run the ingest job again.")


def create_store(root: str | Path | Location, *, dataset: str, label_set: LabelSet) -> Store:
    """Create a store or open the one that is there, if it is of the same data set and label set.

    Raises
    ------
    InputError
        When a different store, or something that is no store, is in the way, or the place cannot be written.
    """
    place = locate(root)
    if not place.exists("zarr.json"):
        _create(place, dataset, label_set)
    store = Store(place)
    if (store.dataset, store.label_set) != (dataset, label_set):
        raise InputError(
            str(place),
            f"holds data set {store.dataset} with labels {', '.join(store.label_set.names)}",
            "Choose another store folder.",
        )
    return store


def _create(place: Location, dataset: str, label_set: LabelSet) -> None:
    """Write an empty store; another process may be writing it too, or may have been killed while doing so."""
    attributes = {
        "e2llm_format": FORMAT_VERSION,
        "dataset": dataset,
        "label_set": label_set.model_dump(mode="json"),
    }
    try:
        _refuse_foreign(place)
        place.write("recordings/zarr.json", _group({}))
        place.write("zarr.json", _group(attributes))
    except OSError as error:
        raise InputError(str(place), f"cannot be written ({error.strerror})", "Choose another store folder.") from error


def _refuse_foreign(place: Location) -> None:
    """Raise `InputError` if other content is in the way of a new store."""
    names = place.names()
    if not place.exists("recordings/zarr.json"):
        names += place.names("recordings")
    if foreign := [name for name in names if name not in ("recordings", *LOCKS) and not name.startswith("zarr.")]:
        raise InputError(str(place), f"holds other content ({foreign[0]})", "Choose another folder or prefix.")


def open_store(root: str | Path | Location) -> Store:
    """Open a store for reading.

    Raises
    ------
    InputError
        When there is no store, or one of another format.
    """
    return Store(locate(root))


def subjects_of(trials: pd.DataFrame) -> list[str]:
    """Return the subjects of a trial table, sorted."""
    return sorted(trials["subject"].unique())
