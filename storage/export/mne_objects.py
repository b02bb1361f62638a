"""Recordings and windows of a store as MNE's Raw and Epochs, in volts."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.errors import InputError
from storage.recording import RecordingInfo, Trial
from storage.shards import DamageError, ShardedArray
from storage.signal.montage import positions
from storage.store import Store
from storage.windows import Windows

if TYPE_CHECKING:
    import mne

UNLABELLED = "unlabelled"
BOUNDARIES = ("BAD boundary", "EDGE boundary")
"""What MNE puts where two recordings were joined."""

_READ_AT_ONCE = 2**16
_BAND = re.compile(r"^band-pass ([\d.]*)-([\d.]*) Hz")
_MEANT_BY_MNE = re.compile(r"^(bad|edge)", re.IGNORECASE)


def to_raw(store: Store, recording_id: str) -> "mne.io.RawArray":
    """Return one recording as MNE's `Raw`, all of it in memory.

    Channels have MNE's spelling (``Fp1``, ``FCz``), so that ``set_montage("colin27_1005", on_missing="ignore")``
    finds them; no position is set. Trials are annotations, described by :func:`description_of`, with `trial`,
    `position` and `clip` in their `extras`; breaks carry MNE's ``BAD boundary`` and ``EDGE boundary``. Pass band
    and bad channels are those that the provenance names. There is no date and no subject information.

    Parameters
    ----------
    store : Store
        Where the recording is.
    recording_id : str
        Name of the recording in the store.

    Returns
    -------
    mne.io.RawArray
        float64 (n_chans, n_times) in volts.

    Raises
    ------
    InputError
        When there is no such recording, or its samples are missing or damaged.
    """
    import mne

    recording = store.find(recording_id)
    if recording is None:
        raise InputError(
            str(store.root), f"has no recording {recording_id}", f"See `e2llm info {store.root}` for what it holds."
        )
    info = _info(recording.channels, recording.sfreq_hz, f"{store.dataset}, recording {recording_id}")
    with info._unlock():
        info["highpass"], info["lowpass"] = _pass_band_hz(recording)
    spelled = spell(recording.channels)
    info["bads"] = [spelled[recording.channels.index(channel)] for channel in _bads(recording)]
    signal = read_uv(store, recording)
    signal *= 1e-6
    raw = mne.io.RawArray(signal, info, verbose="error")
    return raw.set_annotations(_annotations(recording))


def to_epochs(store: Store, windows: Windows) -> "mne.EpochsArray":
    """Return windows as MNE's `Epochs`, all of them in memory.

    Event codes are the label ids plus one; one more than the last for windows without label. An event's sample is
    the window's first in its recording, recordings laid end to end in the order of the windows; where trials
    overlap, and two windows begin at one sample, events are numbered instead. `metadata` has the windows' rows of
    `Windows.describe`, so the true `recording_id` and `start` of each.

    Parameters
    ----------
    store : Store
        Where the windows come from.
    windows : Windows
        Without normalisation.

    Returns
    -------
    mne.EpochsArray
        float64 (n_windows, n_chans, n_times) in volts.

    Raises
    ------
    InputError
        When the windows are normalised, and therefore not in volts, or their samples are missing or damaged.
    """
    import mne

    if windows.config.unit != "uV":
        raise InputError(
            "windows.normalisation",
            f"{windows.config.normalisation} windows are not in volts, which epochs are",
            "Set it to none, and normalise the epochs.",
        )
    table = windows.table
    info = _info(windows.channels, windows.sfreq_hz, store.dataset)
    names = store.label_set.names
    codes = np.where(table["label_id"] < 0, len(names), table["label_id"]) + 1
    described = {code: description_of(name) for code, name in enumerate((*names, None), start=1)}
    lengths = store.catalogue.set_index("recording_id")["n_times"]
    order = table["recording_id"].drop_duplicates()
    before = (lengths.loc[order].cumsum() - lengths.loc[order]).to_dict()
    samples = (table["recording_id"].map(before) + table["start"]).to_numpy(np.int64)
    if len(np.unique(samples)) < len(samples):
        samples = np.arange(len(samples))
    return mne.EpochsArray(
        windows.read(np.arange(len(windows))).astype(np.float64) * 1e-6,
        info,
        events=np.stack([samples, np.zeros_like(samples), codes], axis=1),
        event_id={described[code]: int(code) for code in np.unique(codes)},
        metadata=table,
        proj=False,
        verbose="error",
    )


def description_of(label: str | None) -> str:
    """Describe a trial in annotations: by its label, or as ``unlabelled``.

    MNE takes what begins with "bad" or "edge" for a stretch to leave out: such labels become ``label/bad ...``.
    """
    if label is None:
        return UNLABELLED
    return f"label/{label}" if _MEANT_BY_MNE.match(label) else label


def spell(channels: tuple[str, ...]) -> list[str]:
    """Spell channels as MNE's templates do; names that these do not have (CB1, CB2) stay as they are."""
    spelled = positions(channels)
    return [spelled.get(channel, channel) for channel in channels]


def _info(channels: tuple[str, ...], sfreq_hz: float, description: str) -> Any:
    import mne

    info = mne.create_info(spell(channels), sfreq_hz, "eeg", verbose="error")
    info["description"] = description
    return info


def read_uv(store: Store, recording: RecordingInfo) -> np.ndarray:
    """Read a whole recording, float64 (n_chans, n_times) in µV; missing or damaged samples are an error."""
    import tensorstore as ts

    key, place = store.signal_key(recording), f"{store.root} recording {recording.recording_id}"
    spec = {"driver": "zarr3", "kvstore": store.root.tensorstore(key), "fill_missing_data_reads": False}
    patience = store.root.patience_seconds
    signal_uv = np.empty((len(recording.channels), recording.n_times))
    try:
        stored = ts.open(spec, read=True).result(timeout=patience)
        for start in range(0, recording.n_times, _READ_AT_ONCE):
            stretch = slice(start, min(start + _READ_AT_ONCE, recording.n_times))
            signal_uv[:, stretch] = stored[:, stretch].read().result(timeout=patience)
    except TimeoutError as error:
        raise InputError(place, f"no answer for {patience:g} s", "Check the object store, then run again.") from error
    except (ValueError, OSError) as error:
        raise InputError(
            place,
            f"samples are missing or damaged ({_damage(store, key) or str(error).split(' [', 1)[0]})",
            "Delete the recording's folder and run the ingest job again.",
        ) from error
    scale, offset = (np.array(values)[:, None] for values in (recording.scale_uv, recording.offset_uv))
    signal_uv *= scale
    signal_uv += offset
    return signal_uv


def _damage(store: Store, key: str) -> str:
    try:
        return str(next(ShardedArray.open(store.root, key).damages(), ""))
    except DamageError as error:
        return str(error)


def _annotations(recording: RecordingInfo) -> "mne.Annotations":
    import mne

    rows: list[tuple[float, float, str, dict[str, int]]] = [
        (trial.start, trial.stop - trial.start, description_of(trial.label), _extras(trial))
        for trial in recording.trials
    ]
    rows += [(sample, 0, boundary, {}) for sample in recording.breaks for boundary in BOUNDARIES]
    rows.sort(key=lambda row: row[0])
    return mne.Annotations(
        onset=[row[0] / recording.sfreq_hz for row in rows],
        duration=[row[1] / recording.sfreq_hz for row in rows],
        description=[row[2] for row in rows],
        extras=[row[3] for row in rows],
    )


def _extras(trial: Trial) -> dict[str, int]:
    return {"trial": trial.trial, "position": trial.position, "clip": trial.clip}


def _pass_band_hz(recording: RecordingInfo) -> tuple[float, float]:
    """The narrowest band that the source's header and the ingest's filters name."""
    known = recording.provenance
    lows, highs = [0.0], [recording.sfreq_hz / 2]
    for values, key in ((lows, "highpass_hz"), (highs, "lowpass_hz")):
        if isinstance(value := known.get(key), int | float):
            values.append(float(value))
    for key, step in known.items():
        if key.startswith("step_") and (band := _BAND.match(str(step))):
            lows += [float(band[1])] if band[1] else []
            highs += [float(band[2])] if band[2] else []
    return max(lows), min(highs)


def _bads(recording: RecordingInfo) -> list[str]:
    """Channels that were bad and stayed so, in channel order."""
    known = recording.provenance
    keys = ("bads_left",) if "bads_left" in known else ("bads_marked", "bads_flat", "bads_saturated")
    lists = (known.get(key) for key in keys)
    named = {channel for channels in lists if isinstance(channels, list) for channel in channels}
    return [channel for channel in recording.channels if channel in named]
