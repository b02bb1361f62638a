"""Export a store to a folder: which files to write, which exist already, and in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from storage.errors import InputError
from storage.export import bids, writers
from storage.export.folder import RECORD, ExportFolder, held
from storage.places.base import is_url
from storage.places.folder import Folder
from storage.store import Store
from storage.windows import WindowConfig

Format = Literal["fif", "epochs", "braindecode", "bids", "edf"]
FORMATS: tuple[str, ...] = get_args(Format)
_WINDOWED = ("epochs", "braindecode")
_TRIALS = "trials.csv"


@dataclass(frozen=True)
class Outcome:
    """Outcome for one file or folder of an export.

    `state` is ``written``, ``present`` (an earlier run's, left as it is) or ``no window`` (no trial of the
    recording is as long as a window).
    """

    target: str
    state: Literal["written", "present", "no window"]


def export_store(
    store: Store,
    out: str | Path,
    format: Format,
    *,
    subjects: Sequence[str] | None = None,
    windows: WindowConfig | None = None,
    report: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Write a store, or some of its subjects, into a folder. Memory: one recording at a time.

    Every file (BIDS: every subject's folder; braindecode: every numbered folder) appears whole or not at all, and
    one that is there is not written again: an export that was interrupted is finished by the same call.

    Parameters
    ----------
    store : Store
        Store to export.
    out : path
        Folder: new, empty, or an earlier export of the same store in the same way.
    format : {"fif", "epochs", "braindecode", "bids", "edf"}
        ``<recording>_raw.fif``; ``<recording>-epo.fif``; the folder of `braindecode.datautil.load_concat_dataset`;
        BIDS-EEG; ``<recording>.edf``.
    subjects : sequence of str, optional
        Whose recordings; all when None.
    windows : WindowConfig, optional
        For ``epochs`` (default: 4 s) and ``braindecode`` (default: whole recordings) only.
    report : callable
        Told each outcome as it happens.

    Returns
    -------
    list of Outcome
        In the order written.

    Raises
    ------
    InputError
        When a subject is unknown, the folder holds something else, is in use or cannot be written, samples are
        damaged, or the format cannot hold what is stored.
    """
    place = _place(store, out)
    chosen = _chosen(store, subjects)
    if windows is not None and format not in _WINDOWED:
        raise InputError(f"format {format}", "holds whole recordings, no windows", "Leave the window out.")
    if format == "epochs":
        windows = windows or WindowConfig()
    record = {
        "export": 1,
        "format": format,
        "dataset": store.dataset,
        "store": store.digest,
        "windows": windows and windows.model_dump(mode="json"),
    }
    outcomes = []
    units = _units(store, format, chosen)
    with held(place, record, record_in_units=format == "braindecode") as folder:
        for target, name in units.items():
            if (place / target).exists():
                outcome = Outcome(target, "present")
            elif windows is not None and not _has_window(store, name, windows):
                outcome = Outcome(target, "no window")
            else:
                _write(store, folder, format, name, target, windows)
                outcome = Outcome(target, "written")
            outcomes.append(outcome)
            report(outcome)
        if format in ("fif", "epochs", "edf"):
            _write_trials(store, folder, _units(store, format, store.catalogue))
    return outcomes


def _place(store: Store, out: str | Path) -> Path:
    if is_url(str(out)):
        raise InputError(str(out), "an export goes to a folder", "Name a folder, and copy it.")
    place = Path(out).absolute()
    if isinstance(store.root, Folder) and place.resolve().is_relative_to(store.root.path.resolve()):
        raise InputError(str(out), "is inside the store", "Name another folder.")
    return place


def _chosen(store: Store, subjects: Sequence[str] | None) -> pd.DataFrame:
    catalogue = store.catalogue
    if catalogue.empty:
        raise InputError(str(store.root), "the store holds no recording", "Run its ingest job first.")
    if subjects is None:
        return catalogue
    known = sorted(catalogue["subject"].unique())
    if unknown := [subject for subject in subjects if subject not in known]:
        raise InputError(str(store.root), f"has no subject {unknown[0]!r}", f"It has {', '.join(known)}.")
    return catalogue[catalogue["subject"].isin(list(subjects))]


def _units(store: Store, format: Format, chosen: pd.DataFrame) -> dict[str, str]:
    """The export's files or folders, and the recording (BIDS: the subject) of each."""
    if format == "bids":
        folders = bids.subject_folders(store)
        return {folders[subject]: subject for subject in sorted(chosen["subject"].unique())}
    names = chosen["recording_id"].tolist()
    if format == "braindecode":
        numbers = {name: number for number, name in enumerate(store.catalogue["recording_id"])}
        return {str(numbers[name]): name for name in names}
    ending = {"fif": "_raw.fif", "epochs": "-epo.fif", "edf": ".edf"}[format]
    return {f"{name}{ending}": name for name in names}


def _has_window(store: Store, name: str, config: WindowConfig) -> bool:
    info = store.recordings[name]
    longest = max((trial.stop - trial.start for trial in info.trials), default=0)
    return longest >= round(config.window_seconds * info.sfreq_hz)


def _write(
    store: Store, folder: ExportFolder, format: Format, name: str, target: str, windows: WindowConfig | None
) -> None:
    staging = folder.staging
    if format == "fif":
        writers.write_fif(store, name, staging / target)
    elif format == "edf":
        writers.write_edf(store, name, staging / target)
    elif format == "bids":
        bids.write_subject(store, name, staging)
        bids.merge_root(folder.path, staging)
    elif format == "braindecode":
        record: dict[str, Any] = {"place": RECORD, "content": folder.record}
        writers.write_braindecode(store, name, staging / target, windows, record)
    elif windows is not None:
        writers.write_epochs(store, name, staging / target, windows, braindecode=False)
    folder.publish(staging, target)


def _write_trials(store: Store, folder: ExportFolder, units: dict[str, str]) -> None:
    """Write the trial table of what is there, with the file that each trial is in."""
    files = {name: target for target, name in units.items() if (folder.path / target).exists()}
    trials = store.trials[store.trials["recording_id"].isin(list(files))]
    staging = folder.staging
    trials.assign(file=trials["recording_id"].map(files)).to_csv(staging / _TRIALS, index=False)
    folder.publish(staging, _TRIALS)
