"""One file or folder of an export, written to where nobody looks yet."""

import mmap
import struct
from pathlib import Path
from typing import Any

from storage.errors import InputError
from storage.export.mne_objects import to_epochs, to_raw
from storage.places.files import write_json
from storage.store import Store
from storage.windows import WindowConfig, Windows

_FIFF_ID_STRUCT = 31
_FIFF_TAG = struct.Struct(">iiii")


def write_fif(store: Store, recording_id: str, path: Path) -> None:
    """Write a recording as MNE's FIF, float32 volts."""
    to_raw(store, recording_id).save(path, fmt="single", verbose="error")
    for part in path.parent.glob("*.fif"):
        forget_machine(part)


def write_epochs(store: Store, recording_id: str, path: Path, config: WindowConfig, *, braindecode: bool) -> None:
    """Write a recording's windows as MNE's FIF, float32 volts; with the columns that braindecode asks for."""
    import mne

    trials = store.trials
    windows = Windows(store, config, trials[trials["recording_id"] == recording_id])
    epochs = to_epochs(store, windows)
    if braindecode:
        table = epochs.metadata
        with mne.use_log_level("error"):
            epochs.metadata = table.assign(
                i_window_in_trial=table.groupby("trial").cumcount(),
                i_start_in_trial=table["start"],
                i_stop_in_trial=table["stop"],
                target=table["label_id"],
            )
    epochs.save(path, fmt="single", verbose="error")
    for part in path.parent.glob("*.fif"):
        forget_machine(part)


def write_edf(store: Store, recording_id: str, path: Path) -> None:
    """Write a recording as EDF+, each channel's range in 65,534 steps.

    Raises
    ------
    InputError
        When the sampling rate is no whole number.
    """
    import mne

    raw = to_raw(store, recording_id)
    if not float(raw.info["sfreq"]).is_integer():
        raise InputError(
            f"recording {recording_id}",
            f"EDF cannot hold a sampling rate of {raw.info['sfreq']:g} Hz exactly",
            "Export it as fif or bids.",
        )
    mne.export.export_raw(path, raw, fmt="edf", physical_range="channelwise", overwrite=True, verbose="error")


def write_braindecode(
    store: Store, recording_id: str, folder: Path, config: WindowConfig | None, record: dict[str, Any]
) -> None:
    """Write one subfolder of what `braindecode.datautil.load_concat_dataset` reads; its name is the number.

    ``N/N-raw.fif``, or ``N/N-epo.fif`` with ``N/window_kwargs.json`` where windows are asked for, and
    ``N/description.json``. Source: braindecode's `datautil/serialization.py`.
    """
    folder.mkdir()
    info = store.recordings[recording_id]
    if config is None:
        write_fif(store, recording_id, folder / f"{folder.name}-raw.fif")
    else:
        write_epochs(store, recording_id, folder / f"{folder.name}-epo.fif", config, braindecode=True)
        cut = {"window_seconds": config.window_seconds, "stride_seconds": config.stride_seconds}
        served = {"targets_from": "metadata", "last_target_only": True}
        write_json(folder / "window_kwargs.json", [["e2llm_export", cut], ["WindowsDataset", served]])
    description = {"dataset": store.dataset, "recording_id": recording_id}
    write_json(folder / "description.json", description | {"subject": info.subject, "session": info.session})
    write_json(folder / "target_name.json", {"target_name": None})
    write_json(folder / record["place"], record["content"])


def forget_machine(path: Path) -> None:
    """Blank the writing machine's network address, which MNE puts into each identifier of a FIF file."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = 0
        while place + _FIFF_TAG.size <= len(content):
            _, kind, size, following = _FIFF_TAG.unpack_from(content, place)
            start = place + _FIFF_TAG.size
            if kind == _FIFF_ID_STRUCT:
                content[start + 4 : start + 12] = bytes(8)
            if following < 0:
                return
            place = following or start + size
