"""A subject of a store as BIDS-EEG, by mne-bids."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from storage.errors import InputError
from storage.export.mne_objects import BOUNDARIES, UNLABELLED, description_of, to_raw
from storage.places.files import write_bytes
from storage.recording import RecordingInfo
from storage.store import Store

_COLUMNS = {
    "trial": "Number of the trial in the subject's session.",
    "position": "Place of the trial in the order in which the session was recorded, from 1.",
    "clip": "Number of the stimulus.",
}


def subject_folders(store: Store) -> dict[str, str]:
    """Name each subject's folder, ``sub-<letters and digits>``.

    Raises
    ------
    InputError
        When two subjects, or two sessions of one, differ in nothing but what BIDS does not allow in names.
    """
    catalogue = store.catalogue
    for subject, sessions in catalogue.groupby("subject")["session"]:
        _entities(store, f"sessions of subject {subject}", sessions)
    return {name: f"sub-{entity}" for name, entity in _entities(store, "subjects", catalogue["subject"]).items()}


def write_subject(store: Store, subject: str, root: Path) -> None:
    """Write all recordings of a subject into an empty BIDS root: BrainVision (float32), events, sidecars.

    Runs are a session's recordings in the order of their first trial; the task is the data set's name.
    """
    import mne_bids

    mne_bids.make_dataset_description(path=root, name=store.dataset, verbose="error")
    rows = store.catalogue[store.catalogue["subject"] == subject]
    label = subject_folders(store)[subject].removeprefix("sub-")
    sessions = _entities(store, f"sessions of subject {subject}", rows["session"])
    for session, names in rows.groupby("session")["recording_id"]:
        for run, name in enumerate(_in_order(store, names), start=1):
            raw = to_raw(store, name)
            written = mne_bids.write_raw_bids(
                raw,
                mne_bids.BIDSPath(
                    subject=label,
                    session=sessions[str(session)],
                    task=_bare(store.dataset) or "eeg",
                    run=f"{run:02d}",
                    datatype="eeg",
                    root=root,
                ),
                event_id=_event_codes(store, raw.annotations.description),
                extra_columns_descriptions=_COLUMNS,
                format="BrainVision",
                allow_preload=True,
                overwrite=True,
                verbose="error",
            )
            _correct_sidecar(written, store.recordings[name])


def _correct_sidecar(written: Any, recording: RecordingInfo) -> None:
    """State what was done to the signal; mne-bids takes the maker of the file format for that of the amplifier."""
    import mne_bids

    steps = {key: {"description": step} for key, step in recording.provenance.items() if key.startswith("step_")}
    entries = {"Manufacturer": "n/a", "SoftwareFilters": steps or "n/a"}
    mne_bids.update_sidecar_json(written.copy().update(suffix="eeg", extension=".json"), entries, verbose="error")


def merge_root(root: Path, staged: Path) -> None:
    """Prepare a staged root for its place: participants of both, and none of the other files that are there."""
    name = "participants.tsv"
    for path in staged.iterdir():
        if path.is_file() and path.name != name and (root / path.name).exists():
            path.unlink()
    tables = [
        pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        for path in (root / name, staged / name)
        if path.exists()
    ]
    merged = pd.concat(tables).drop_duplicates("participant_id").sort_values("participant_id")
    write_bytes(staged / name, merged.to_csv(sep="\t", index=False).encode())


def _event_codes(store: Store, descriptions: Iterable[str]) -> dict[str, int]:
    """Label ids plus one; unlabelled trials and boundaries follow them."""
    named = [description_of(label) for label in store.label_set.names]
    codes = {name: code for code, name in enumerate((*named, UNLABELLED, *BOUNDARIES), start=1)}
    return {name: codes[name] for name in dict.fromkeys(descriptions)}


def _in_order(store: Store, names: Iterable[str]) -> list[str]:
    def first(name: str) -> tuple[Any, ...]:
        trials = store.recordings[name].trials
        return min((trial.position for trial in trials), default=0), name

    return sorted(names, key=first)


def _entities(store: Store, what: str, names: Iterable[str]) -> dict[str, str]:
    """Shorten names to what BIDS allows."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(str(name) for name in names):
        entity = _bare(name)
        if not entity or entity in found.values():
            raise InputError(
                str(store.root),
                f"{what}: BIDS has letters and digits only, which leaves {entity!r} of {name!r}"
                f"{' and of another' if entity else ''}",
                "Export it as fif, or ingest with other names.",
            )
        found[name] = entity
    return found


def _bare(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name)
