"""Data sets that are distributed as one signal per clip: each clip is one piece and one trial."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from storage.errors import InputError
from storage.readers.base import RawRecording, TrialSpan
from storage.readers.mat import load_variables, variable_names
from storage.signal.units import assert_plausible

Provenance = dict[str, str | float | list[str] | None]


def clip_recording(
    signals: Sequence[np.ndarray],
    clips: Sequence[int],
    labels: Sequence[str],
    *,
    channels: Sequence[str],
    sfreq_hz: float,
    provenance: Provenance,
    place: str,
    intensities: Mapping[int, tuple[float, ...]] | None = None,
) -> RawRecording:
    """Combine a session's clips, given in presentation order, into one recording.

    Parameters
    ----------
    signals : sequence of np.ndarray
        One array per clip, (n_chans, n_times) in µV.
    clips, labels : sequences
        Clip number and label of each signal.
    channels, sfreq_hz, provenance
        Channel names, sampling rate in Hz and provenance of the recording.
    place : str
        File that error messages name.
    intensities : mapping, optional
        Continuous labels by clip number.

    Raises
    ------
    InputError
        When a signal is empty or has the wrong number of channels, or its amplitude is implausible for µV.
    """
    trials = []
    for place_in_session, (signal, clip, label) in enumerate(zip(signals, clips, labels, strict=True), start=1):
        if signal.ndim != 2 or signal.shape[0] != len(channels) or signal.shape[1] == 0:
            problem = f"shape {signal.shape}, expected ({len(channels)}, T)"
            raise InputError(f"{place} clip {clip}", problem, "Fetch the file again.")
        trials.append(
            TrialSpan(
                piece=place_in_session - 1,
                start=0,
                stop=signal.shape[1],
                trial=place_in_session,
                position=place_in_session,
                clip=clip,
                label=label,
                intensity=intensities.get(clip) if intensities else None,
            )
        )
    assert_plausible(signals, sfreq_hz, place)
    return RawRecording(tuple(channels), sfreq_hz, list(signals), trials, provenance=provenance)


def load_trials(path: Path, num_trials: int) -> list[np.ndarray]:
    """Load the trials of a MAT file whose variables are named ``<initials>_eeg1``, ``<initials>_eeg2``, ...

    Returns
    -------
    list of np.ndarray
        The trials in order.

    Raises
    ------
    InputError
        When a trial is missing or given twice, there are more than `num_trials`, or the file is damaged.
    """
    found: dict[int, list[str]] = {}
    for name in variable_names(path):
        if match := re.fullmatch(r"\w*_eeg_?(\d+)", name):
            found.setdefault(int(match[1]), []).append(name)
    expected = range(1, num_trials + 1)
    if missing := [str(trial) for trial in expected if trial not in found]:
        raise InputError(str(path), f"has no variable *_eeg{', *_eeg'.join(missing)}", "Fetch the file again.")
    if more := [trial for trial in found if trial not in expected or len(found[trial]) > 1]:
        raise InputError(
            str(path),
            f"trial {more[0]} is unexpected or given twice, expected 1 to {num_trials} once each",
            "Use the original file.",
        )
    names = [found[trial][0] for trial in expected]
    values = load_variables(path, {name: f"trial {trial}" for trial, name in zip(expected, names, strict=True)})
    if lost := [str(trial) for trial, name in zip(expected, names, strict=True) if name not in values]:
        raise InputError(str(path), f"trial {', '.join(lost)} cannot be read", "Fetch the file again.")
    return [values[name] for name in names]


def assert_published(place: Path, found: Sequence[object], published: Sequence[object], what: str) -> None:
    """Compare entries of a local file with the published ones.

    Raises
    ------
    InputError
        When they differ, naming the first entry that does, or both lengths.
    """
    if len(found) != len(published):
        raise InputError(
            str(place), f"holds {len(found)} {what}s, {len(published)} were published", "Use the original file."
        )
    for number, (mine, theirs) in enumerate(zip(found, published, strict=True), start=1):
        if mine != theirs:
            raise InputError(
                str(place), f"{what} {number} is {mine!r}, but was published as {theirs!r}", "Use the original file."
            )
