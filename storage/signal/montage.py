"""Interpolation and re-referencing, by MNE: steps that need electrode positions or the reference."""

from collections.abc import Sequence

import numpy as np

from storage.errors import InputError

MONTAGE = "colin27_1005"
"""MNE's template positions of the 10-05 system (named standard_1005 before MNE 1.13)."""
_FEWEST_NEIGHBOURS = 4


def positions(channels: Sequence[str]) -> dict[str, str]:
    """Channels with a template position, and the template's spelling; SEED's CB1 and CB2 have none."""
    import mne

    known = {name.upper(): name for name in mne.channels.make_standard_montage(MONTAGE).ch_names}
    return {channel: known[channel] for channel in channels if channel in known}


def interpolate(
    pieces: Sequence[np.ndarray], channels: Sequence[str], bads: Sequence[str], steps: list[str], place: str
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Interpolate bad channels from the others, by spherical splines over template positions.

    A channel without a template position (CB1, CB2) neither contributes nor is made anew.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        Each (n_chans, n_times).
    channels, bads : sequence of str
        All channels, and those to make anew.
    steps : list of str
        Record of the processing; this step is appended.
    place : str
        Named in an error.

    Returns
    -------
    pieces : list of np.ndarray
        The new signals, of the same shapes.
    left : tuple of str
        Bad channels without a position, unchanged.

    Raises
    ------
    InputError
        When fewer than four good channels have a position.
    """
    import mne

    spelled = positions(channels)
    targets = [channel for channel in bads if channel in spelled]
    left = tuple(channel for channel in bads if channel not in spelled)
    if not targets:
        return list(pieces), left
    if len(spelled) - len(targets) < _FEWEST_NEIGHBOURS:
        raise InputError(
            place,
            f"{', '.join(targets)} cannot be interpolated from {len(spelled) - len(targets)} good channels",
            "Set `signal.bad_channels: keep`.",
        )
    rows = [row for row, channel in enumerate(channels) if channel in spelled]
    info = mne.create_info(list(spelled.values()), 1.0, "eeg")
    info.set_montage(MONTAGE, verbose="error")
    info["bads"] = [spelled[channel] for channel in targets]
    done = []
    for piece in pieces:
        raw = mne.io.RawArray(piece[rows], info, copy="both", verbose="error")
        raw.interpolate_bads(method={"eeg": "spline"}, origin="auto", verbose="error")
        made = np.array(piece, dtype=np.float64)
        made[rows] = raw.get_data()
        done.append(made)
    steps.append(f"interpolate {', '.join(targets)} (mne Raw.interpolate_bads, spherical splines, {MONTAGE})")
    return done, left


def rereference(
    pieces: Sequence[np.ndarray],
    channels: Sequence[str],
    bads: Sequence[str],
    reference: str | Sequence[str],
    steps: list[str],
    place: str,
) -> list[np.ndarray]:
    """Measure every channel against the mean over good channels (``"average"``), or over named ones.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        Each (n_chans, n_times).
    channels, bads : sequence of str
        All channels; the bad ones do not enter the average.
    reference : "average" or sequence of str
        The new reference.
    steps : list of str
        Record of the processing; this step is appended.
    place : str
        Named in an error.

    Raises
    ------
    InputError
        When a named channel is not there or bad, or no channel is good.
    """
    import mne

    named = [channel for channel in channels if channel not in bads] if reference == "average" else list(reference)
    for channel in named:
        if channel not in channels or channel in bads:
            raise InputError(
                place,
                f"reference channel {channel} {'is bad' if channel in bads else 'is not among its channels'}",
                "Correct `signal.reference`.",
            )
    if not named:
        raise InputError(place, "no channel is good enough for the average reference", "Drop the recording.")
    info = mne.create_info(list(channels), 1.0, "eeg")
    done = []
    for piece in pieces:
        raw = mne.io.RawArray(piece, info, copy="both", verbose="error")
        done.append(raw.set_eeg_reference(named, verbose="error").get_data())
    words = f"average of {len(named)} good channels" if reference == "average" else ", ".join(named)
    steps.append(f"reference {words} (mne Raw.set_eeg_reference)")
    return done
