"""What a store keeps of one recording: its description, its trials, its samples as int16 steps."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

RECORDING_ID = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
STEP_UV = 0.1


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
    """What is known of a recording besides its samples. Holds no personal data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str = Field(pattern=RECORDING_ID)
    subject: str
    session: str
    channels: tuple[str, ...]
    sfreq_hz: float
    n_times: int
    scale_uv: tuple[float, ...] = ()
    source_sha256: str
    ingest_digest: str
    provenance: dict[str, str | float | list[str] | None]
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


def quantise(signal_uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn microvolts into int16 steps.

    Parameters
    ----------
    signal_uv : np.ndarray
        (n_chans, n_times) in µV, finite.

    Returns
    -------
    steps : np.ndarray
        int16, same shape; ``steps * scale[:, None]`` is off by at most half a step.
    scale_uv : np.ndarray
        (n_chans,) µV per step: 0.1, coarser only where a channel's range demands it.
    """
    signal_uv = np.asarray(signal_uv, dtype=np.float64)
    peak = np.abs(signal_uv).max(axis=1, initial=0.0)
    scale = np.maximum(STEP_UV, peak / np.iinfo(np.int16).max)
    return np.rint(signal_uv / scale[:, None]).astype(np.int16), scale
