"""What is done to a recording's signal on its way into the store."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from storage.errors import InputError
from storage.quality.measures import Quality, measure, require_finite
from storage.readers.base import RawRecording, TrialSpan
from storage.signal.config import SignalConfig

_NEARLY = 1e-5
_MAX_TERM = 1_000_000
_FLOAT32 = 2.0**-24
"""What a header's float32 leaves open of a rate: 241.15 Hz is 241.1499939 in FIF."""
_MILLIONTH = 1e-6


def prepare(
    raw: RawRecording, config: SignalConfig, *, quality: Quality | None = None, place: str = "recording"
) -> RawRecording:
    """Apply a configuration to a recording: bad channels, filters, interpolation, reference, sampling rate.

    Every step is written into the provenance as ``step_1``, ``step_2``, ... in order. Filters run over whole
    pieces, at the source's rate. They and the resampling have zero phase: a sample depends on later ones. A rate
    within a 100,000th of a whole number of Hz is taken as that number, and as stated it goes into the provenance as
    ``stated_sfreq_hz``.

    Parameters
    ----------
    raw : RawRecording
        As read.
    config : SignalConfig
        Processing steps.
    quality : Quality, optional
        What :func:`storage.quality.measures.measure` found in `raw`; measured here where bad channels are to be
        detected and it is not given.
    place : str
        File or recording to name in an error.

    Raises
    ------
    InputError
        When samples are not finite, an edge is not below the Nyquist frequency, a piece is shorter than the filter,
        a reference channel is missing or bad, too many channels are bad, or a trial would lose all its samples.
    """
    from storage.signal.filters import bandpass, notch
    from storage.signal.montage import interpolate, rereference

    require_finite(raw.pieces, raw.channels, place)
    raw = _at_whole_rate(raw)
    ratio = _ratio(raw.sfreq_hz, config.sfreq_hz, place)
    pieces: Sequence[np.ndarray] = raw.pieces
    steps: list[str] = []
    bads, provenance = _bad_channels(raw, config, quality, place)
    if config.notch_hz is not None:
        pieces = notch(pieces, raw.sfreq_hz, config.notch_hz, steps, place)
    if config.bandpass_hz is not None:
        pieces = bandpass(pieces, raw.sfreq_hz, config.bandpass_hz, steps, place)
    if config.bad_channels == "interpolate" and bads:
        _few_enough(bads, raw.channels, config.max_bad_share, place)
        pieces, bads = interpolate(pieces, raw.channels, bads, steps, place)
        provenance |= {"bads_left": list(bads)}
    if config.reference != "as-recorded":
        pieces = rereference(pieces, raw.channels, bads, config.reference, steps, place)
    if steps:
        provenance |= {"filter_phase": "zero", "mne_version": _mne_version()}
    if ratio != 1:
        pieces = [resample(piece, raw.sfreq_hz, config.sfreq_hz) for piece in pieces]
        change = f"{raw.sfreq_hz:g} to {config.sfreq_hz:g} Hz, polyphase {ratio.numerator}/{ratio.denominator}"
        steps.append(f"resample {change} (scipy.signal.resample_poly, zero phase)")
    provenance |= {f"step_{number}": step for number, step in enumerate(steps, start=1)}
    return replace(
        raw,
        sfreq_hz=config.sfreq_hz,
        pieces=pieces,
        trials=map_trials(raw.trials, ratio, place),
        bads=bads,
        provenance=raw.provenance | {"source_sfreq_hz": raw.sfreq_hz} | provenance,
    )


def map_trials(trials: Sequence[TrialSpan], ratio: Fraction, place: str) -> list[TrialSpan]:
    """Move spans to another sampling rate, `ratio` times the old one.

    A span keeps the new samples whose time lies within it, ends excluded: spans that were apart or met stay so,
    and lengths are off by less than one sample.

    Raises
    ------
    InputError
        When a span holds no sample at the new rate.
    """
    moved = [replace(span, start=_ceil(span.start * ratio), stop=_ceil(span.stop * ratio)) for span in trials]
    for span in moved:
        if span.start >= span.stop:
            raise InputError(place, f"trial {span.trial} is too short for the new rate", "Raise `signal.sfreq_hz`.")
    return moved


def resample(signal: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Polyphase resampling along the last axis, exact (200 -> 256 Hz is 32/25) or within a millionth.

    Each row's mean is set aside and its ends are continued along its trend, so that an offset leaves no
    transient at the edges.

    """
    from scipy.signal import resample_poly

    ratio = _ratio(from_hz, to_hz)
    if ratio == 1:
        return signal
    mean = signal.mean(axis=-1, keepdims=True)
    up, down = ratio.numerator, ratio.denominator
    resampled: np.ndarray = resample_poly(signal - mean, up, down, axis=-1, padtype="line") + mean
    return resampled


def _bad_channels(
    raw: RawRecording, config: SignalConfig, quality: Quality | None, place: str
) -> tuple[tuple[str, ...], dict[str, str | float | list[str] | None]]:
    """Bad channels in channel order, and how they were found."""
    marked = [channel for channel in raw.channels if channel in raw.bads]
    found: dict[str, str | float | list[str] | None] = {"bads_marked": marked} if marked else {}
    bads = set(marked)
    if config.detect_bads:
        if quality is None:
            quality = measure(raw.pieces, raw.channels, raw.sfreq_hz, bads=raw.bads, place=place)
        found |= {"bads_flat": list(quality.flat), "bads_saturated": list(quality.saturated)}
        bads |= {*quality.flat, *quality.saturated}
    return tuple(channel for channel in raw.channels if channel in bads), found


def _few_enough(bads: Sequence[str], channels: Sequence[str], max_share: float, place: str) -> None:
    if len(bads) > max_share * len(channels):
        named = ", ".join(bads[:6]) + (" ..." if len(bads) > 6 else "")
        raise InputError(
            place,
            f"{len(bads)} of {len(channels)} channels are bad ({named}), more than a share of {max_share:g}",
            "Drop the recording, or raise `signal.max_bad_share`.",
        )


def _mne_version() -> str:
    import mne

    return str(mne.__version__)


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _at_whole_rate(raw: RawRecording) -> RawRecording:
    """Take 250.0003 Hz, what a header made of an interval, for 250 Hz: polyphase needs a ratio of small numbers."""
    whole = float(round(raw.sfreq_hz))
    if raw.sfreq_hz == whole or abs(raw.sfreq_hz - whole) > _NEARLY * raw.sfreq_hz:
        return raw
    return replace(raw, sfreq_hz=whole, provenance=raw.provenance | {"stated_sfreq_hz": raw.sfreq_hz})


def _ratio(from_hz: float, to_hz: float, place: str = "signal") -> Fraction:
    """The ratio of two rates: exact where its terms are small, else within a millionth."""
    if from_hz == to_hz:
        return Fraction(1)
    if not (from_hz > 0 and to_hz > 0):
        raise InputError(
            place, f"a rate of {min(from_hz, to_hz):g} Hz is not a sampling rate", "Check how it was exported."
        )
    ratio = Fraction(to_hz).limit_denominator(10_000) / _simplest(from_hz, _FLOAT32)
    if max(ratio.numerator, ratio.denominator) <= _MAX_TERM:
        return ratio
    return _simplest(to_hz / from_hz, _MILLIONTH)


def _simplest(value: float, within: float) -> Fraction:
    """The fraction of the smallest denominator within a relative distance."""
    exact, low, high = Fraction(value), 0, 1
    while abs(exact.limit_denominator(high) - exact) > within * exact:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if abs(exact.limit_denominator(middle) - exact) > within * exact:
            low = middle
        else:
            high = middle
    return exact.limit_denominator(high)
