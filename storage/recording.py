"""What a store keeps of one recording: its description, its trials, its samples as int16 steps or float32."""

import bisect
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.layout import LayoutConfig
from storage.quality.measures import Quality

RECORDING_ID = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
STEP_UV = 0.1
_FEWEST_STEPS = 16
_BLOCK = 256
Precision = Literal["int16", "float32"]


class Trial(BaseModel):
    """One labelled stretch of a recording: `start`..`stop` in samples, `stop` excluded.

    `trial` is unique within a subject's session; `position` is its place (from 1) in the order in which the
    session's trials were recorded, and never follows from the label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial: int
    position: int
    clip: int
    start: int = Field(ge=0)
    stop: int
    label: str | None = None
    intensity: tuple[float, ...] | None = None


class RecordingInfo(BaseModel):
    """Description of a recording besides its samples. Holds no personal data.

    Sample ``s`` of channel ``c`` is ``s * scale_uv[c] + offset_uv[c]`` µV. `breaks` are the samples at which the
    signal is not continuous with the one before. `onsets_seconds` is the recording time of the first sample of each
    stretch between them, pauses counted, where the source knows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str = Field(pattern=RECORDING_ID)
    subject: str
    session: str
    channels: tuple[str, ...]
    sfreq_hz: float
    n_times: int
    breaks: tuple[int, ...] = ()
    onsets_seconds: tuple[float, ...] = ()
    signal: str = ""
    scale_uv: tuple[float, ...] = ()
    offset_uv: tuple[float, ...] = ()
    precision: Precision = "int16"
    layout: LayoutConfig = Field(default_factory=LayoutConfig)
    source_sha256: str
    ingest_digest: str
    provenance: dict[str, str | float | list[str] | None]
    quality: Quality | None = None
    trials: tuple[Trial, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "RecordingInfo":
        for trial in self.trials:
            if not trial.start < trial.stop <= self.n_times:
                place = f"{trial.start}..{trial.stop} of {self.n_times} samples"
                raise ValueError(f"trial {trial.trial} is {place}")
        if len({trial.trial for trial in self.trials}) < len(self.trials):
            raise ValueError("two trials have one number")
        if self.onsets_seconds and len(self.onsets_seconds) != len(self.breaks) + 1:
            raise ValueError(f"{len(self.onsets_seconds)} onsets for {len(self.breaks)} breaks")
        return self

    def seconds_at(self, sample: int) -> float:
        """Recording time of a sample; without pauses if the source does not state them."""
        if not self.onsets_seconds:
            return sample / self.sfreq_hz
        place = bisect.bisect_right(self.breaks, sample)
        first = self.breaks[place - 1] if place else 0
        return self.onsets_seconds[place] + (sample - first) / self.sfreq_hz


def encode(info: RecordingInfo, signal_uv: np.ndarray) -> tuple[RecordingInfo, np.ndarray]:
    """Encode a recording's samples for storage, and record the encoding in its description.

    A recording for one of whose channels int16 would be too coarse is stored as float32 instead: nothing is clipped,
    and `provenance` says why (``off_scale``).

    Parameters
    ----------
    info : RecordingInfo
        `precision` is what is asked for.
    signal_uv : np.ndarray
        (n_chans, n_times) in µV, finite.

    Returns
    -------
    info : RecordingInfo
        With `precision`, `scale_uv` and `offset_uv` of the samples.
    samples : np.ndarray
        int16 or float32, same shape.
    """
    update: dict[str, object] = {}
    if info.precision == "int16":
        samples, scale, offset = quantise(signal_uv)
        coarse = too_coarse(signal_uv, scale)
        if not coarse:
            update = {"scale_uv": tuple(scale.tolist()), "offset_uv": tuple(offset.tolist())}
            return info.model_copy(update=update), samples
        named = [f"{info.channels[row]}: {count:,}" for row, count in coarse.items()]
        update = {"precision": "float32", "provenance": info.provenance | {"off_scale": named}}
    ones, zeros = (1.0,) * len(info.channels), (0.0,) * len(info.channels)
    return info.model_copy(update=update | {"scale_uv": ones, "offset_uv": zeros}), signal_uv.astype(np.float32)


def quantise(signal_uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn microvolts into int16 steps.

    Parameters
    ----------
    signal_uv : np.ndarray
        (n_chans, n_times) in µV, finite.

    Returns
    -------
    steps : np.ndarray
        int16, same shape; ``steps * scale[:, None] + offset[:, None]`` is off by at most half a step.
    scale_uv : np.ndarray
        (n_chans,) µV per step: 0.1, coarser only where a channel's range demands it.
    offset_uv : np.ndarray
        (n_chans,) µV: zero, or the middle of the channel's range where that would not fit otherwise.
    """
    signal_uv = np.asarray(signal_uv, dtype=np.float64)
    limit = np.iinfo(np.int16).max
    low, high = signal_uv.min(axis=1), signal_uv.max(axis=1)
    fits = np.maximum(-low, high) <= STEP_UV * limit
    offset = np.where(fits, 0.0, np.rint((low + high) / 2))
    peak = np.maximum(high - offset, offset - low)
    scale = np.maximum(STEP_UV, peak / limit)
    return np.rint((signal_uv - offset[:, None]) / scale[:, None]).astype(np.int16), scale, offset


def too_coarse(signal_uv: np.ndarray, scale_uv: np.ndarray) -> dict[int, int]:
    """Channels whose range is too large for int16 to resolve their typical signal.

    Parameters
    ----------
    signal_uv : np.ndarray
        (n_chans, n_times) in µV.
    scale_uv : np.ndarray
        (n_chans,) µV per step that their range demands.

    Returns
    -------
    dict of int to int
        Rows whose typical deviation within 256 samples (the median over all such blocks) is less than 16 steps, and
        how many of their samples lie beyond what steps of 0.1 µV reach about their median. Empty where 0.1 µV do.
    """
    found = {}
    for row in np.flatnonzero(np.asarray(scale_uv) > STEP_UV).tolist():
        values = np.asarray(signal_uv[row], dtype=np.float64)
        length = min(_BLOCK, len(values))
        typical = float(np.median(values[: len(values) // length * length].reshape(-1, length).std(axis=1)))
        if scale_uv[row] * _FEWEST_STEPS > typical > STEP_UV:
            limit = STEP_UV * np.iinfo(np.int16).max
            found[row] = int((np.abs(values - np.median(values)) > limit).sum())
    return found
