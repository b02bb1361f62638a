"""What is done to a recording's signal on its way into the store."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from storage.readers.base import RawRecording


class SignalConfig(BaseModel):
    """What is done to the signal on its way into the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sfreq_hz: float = Field(256.0, ge=1, le=10_000)


def prepare(raw: RawRecording, config: SignalConfig) -> RawRecording:
    """Apply a configuration to a recording; every step is written into its provenance."""
    ratio = _ratio(raw.sfreq_hz, config.sfreq_hz)
    pieces = [resample(piece, raw.sfreq_hz, config.sfreq_hz) for piece in raw.pieces]
    trials = [
        replace(
            trial,
            start=int(trial.start * ratio),
            stop=min(-int(-trial.stop * ratio // 1), pieces[trial.piece].shape[1]),
        )
        for trial in raw.trials
    ]
    provenance = raw.provenance | {"source_sfreq_hz": raw.sfreq_hz}
    return replace(raw, sfreq_hz=config.sfreq_hz, pieces=pieces, trials=trials, provenance=provenance)


def resample(signal: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Exact polyphase resampling along the last axis (200 -> 256 Hz is 32/25).

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


def _ratio(from_hz: float, to_hz: float) -> Fraction:
    return Fraction(to_hz).limit_denominator(10_000) / Fraction(from_hz).limit_denominator(10_000)
