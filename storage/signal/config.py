"""What is asked for a recording's signal on its way into the store."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

from storage.signal.channels import canonical_channel


class SignalConfig(BaseModel):
    """What is done to the signal on its way into the store, in this order.

    Parameters
    ----------
    notch_hz : float, list of float or None
        Line frequency to remove, with its harmonics below Nyquist; a list is taken as it is.
    bandpass_hz : (low, high) or None
        Pass band; None in place of an edge leaves that side open.
    detect_bads : bool
        Flat and saturated channels count as bad, besides those that the file marks.
    bad_channels : {"keep", "interpolate"}
        Bad channels stay as they are, or are made anew from their neighbours by spherical splines.
    max_bad_share : float
        A recording with a larger share of bad channels is refused rather than interpolated.
    reference : {"as-recorded", "average"} or list of str
        What every channel is measured against: as in the file, the mean over channels that are not bad, or the
        mean over the named channels.
    sfreq_hz : float
        Sampling rate in the store.
    precision : {"int16", "float32"}
        How samples are stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sfreq_hz: float = Field(256.0, ge=1, le=10_000)
    bandpass_hz: tuple[PositiveFloat | None, PositiveFloat | None] | None = None
    notch_hz: PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    reference: Literal["as-recorded", "average"] | Annotated[tuple[str, ...], Field(min_length=1)] = "as-recorded"
    bad_channels: Literal["keep", "interpolate"] = "keep"
    detect_bads: bool = False
    max_bad_share: float = Field(0.25, ge=0, le=0.5)
    precision: Literal["int16", "float32"] = "int16"

    @field_validator("reference")
    @classmethod
    def _electrodes(cls, reference: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(reference, str):
            return reference
        if unknown := [name for name in reference if canonical_channel(name) is None]:
            raise ValueError(f"{unknown[0]!r} is not a scalp electrode of the 10-05 system")
        return tuple(dict.fromkeys(canonical_channel(name) or name for name in reference))

    @model_validator(mode="after")
    def _possible(self) -> "SignalConfig":
        if self.bandpass_hz is None:
            return self
        low, high = self.bandpass_hz
        if low is None and high is None:
            raise ValueError("bandpass_hz names no edge; leave it out to filter nothing")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"bandpass_hz: the low edge {low:g} Hz is not below the high edge {high:g} Hz")
        if (highest := high or low or 0.0) >= self.sfreq_hz / 2:
            raise ValueError(
                f"bandpass_hz: {highest:g} Hz is not below {self.sfreq_hz / 2:g} Hz, half of sfreq_hz: "
                "the store could not hold it"
            )
        return self
