"""Settings of the EEG tower. Light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.places.base import Place


class TowerConfig(BaseModel):
    """Size and start of the EEG tower. The defaults are EEGPT large with its published checkpoint's layout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["eegpt"] = "eegpt"
    weights: Place | None = Field(None, description="published EEGPT checkpoint, .safetensors or .ckpt")
    start: Literal["random", "fourier"] = Field("random", description="without weights: how a new encoder starts")
    dim: int = Field(512, ge=1)
    depth: int = Field(8, ge=1)
    num_heads: int = Field(8, ge=1)
    n_summary: int = Field(4, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    init_std: float = Field(0.02, gt=0)
    temporal_dim: int = Field(512, ge=1)
    temporal_depth: int = Field(4, ge=1)
    temporal_heads: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "TowerConfig":
        for width, heads in (("dim", "num_heads"), ("temporal_dim", "temporal_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{heads} {getattr(self, heads)} does not divide {width} {getattr(self, width)}")
        return self
