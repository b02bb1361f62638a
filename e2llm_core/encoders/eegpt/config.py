"""Settings of EEGPT and its planning figures. Light to import."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from e2llm_core.counts import Tensors, block_numbers, block_tensors, linear_tensors, norm_tensors, total_numel
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.encoders.eegpt.contract import CONTRACT
from storage.places.base import Place


class EEGPTTower(TowerConfig):
    """A tower with EEGPT; the defaults are EEGPT large with its published checkpoint's layout."""

    title: ClassVar[str] = "EEGPT"
    contract = CONTRACT

    name: Literal["eegpt"] = "eegpt"
    weights: Place | None = Field(None, description="published EEGPT checkpoint, .safetensors or .ckpt")
    start: Literal["random", "fourier"] = Field("random", description="without weights: how a new encoder starts")
    dim: int = Field(512, ge=1)
    depth: int = Field(8, ge=1)
    num_heads: int = Field(8, ge=1)
    n_summary: int = Field(4, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    init_std: float = Field(0.02, gt=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.dim}")
        return self

    @property
    def architecture(self) -> dict[str, Any]:
        """Settings of the network that a spec may choose."""
        return self.model_dump(include={"dim", "depth", "num_heads", "n_summary", "mlp_ratio", "init_std"})

    @classmethod
    def make(cls, architecture: dict[str, Any]) -> Any:
        """Make a random EEGPT of fields of `EEGPTConfig`."""
        from e2llm_core.encoders.base import config_from_dict
        from e2llm_core.encoders.eegpt.architecture import EEGPT, EEGPTConfig

        return EEGPT(config_from_dict(EEGPTConfig, architecture, "encoder 'eegpt'"))

    @classmethod
    def load(cls, encoder: Any, path: Path) -> None:
        """Load ``.safetensors`` or the published Lightning ``.ckpt``."""
        from e2llm_core.encoders.eegpt.weights import load_eegpt_weights

        load_eegpt_weights(encoder, path)

    def start_new(self, encoder: Any) -> None:
        """Start as a bank of oscillations, where the spec asks for it."""
        if self.start == "fourier":
            from e2llm_core.encoders.eegpt.start import fourier_start

            fourier_start(encoder)

    @property
    def patch_width(self) -> int:
        """Width of the summary tokens of a patch, side by side."""
        return self.n_summary * self.dim

    def encoder_tensors(self) -> list[Tensors]:
        """Parameter tensors of the encoder."""
        return [
            Tensors(name="summary_token", numel=self.n_summary * self.dim),
            *linear_tensors("patch_embed", self.contract.patch_samples, self.dim),
            Tensors(name="chan_embed", numel=len(self.contract.channels) * self.dim),
            *block_tensors("encoder", self.dim, int(self.dim * self.mlp_ratio), self.depth),
            norm_tensors("encoder.norm", self.dim),
        ]

    def patch_tokens(self, channels: int) -> int:
        """One token for each channel, and the summary tokens."""
        return channels + self.n_summary

    def patch_flops(self, channels: int) -> float:
        """Two operations per weight and token, and attention among the tokens of the patch."""
        tokens = self.patch_tokens(channels)
        return 2 * total_numel(self.encoder_tensors()) * tokens + 4 * self.depth * tokens**2 * self.dim

    def kept_numbers(self, tokens: float) -> float:
        """What every block keeps."""
        return tokens * self.dim * self.depth * block_numbers(self.mlp_ratio)

    def working_numbers(self, tokens: float, *, backward: bool) -> float:
        """The feed-forward layer's hidden numbers, twice in the backward pass, beside four of the width."""
        return tokens * self.dim * (4 + (2 if backward else 1) * self.mlp_ratio)
