"""Settings of the checks of faithfulness. Light to import."""

from pydantic import BaseModel, ConfigDict, Field


class FaithfulnessSettings(BaseModel):
    """How many windows are asked about again, with another signal or another rationale; 0 leaves a check out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flips: int = Field(100, ge=0, description="windows in which a named band power is moved across its reference")
    uses: int = Field(100, ge=0, description="windows whose answer is read after another rationale")
