"""Settings of the checks of faithfulness. Light to import."""

from pydantic import BaseModel, ConfigDict, Field


class FaithfulnessSettings(BaseModel):
    """Numbers of windows that are asked about again, with another signal or another rationale; 0 omits a check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flips: int = Field(
        100, ge=0, description="number of windows in which a named band power is moved across its reference; 0: none"
    )
    uses: int = Field(100, ge=0, description="number of windows whose answer is read after another rationale; 0: none")
