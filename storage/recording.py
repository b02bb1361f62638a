"""What a store keeps of one recording: its description, its trials, its samples as int16 steps or float32."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.layout import LayoutConfig
from storage.quality.measures import Quality

RECORDING_ID = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
STEP_UV = 0.1
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
    """What is known of a recording besides its samples. Holds no personal data.

    Sample ``s`` of channel ``c`` is ``s * scale_uv[c] + offset_uv[c]`` µV. `breaks` are the samples at which the
    signal is not continuous with the one before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str = Field(pattern=RECORDING_ID)
    subject: str
    session: str
    channels: tuple[str, ...]
    sfreq_hz: float
    n_times: int
    breaks: tuple[int, ...] = ()
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
        return self


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
