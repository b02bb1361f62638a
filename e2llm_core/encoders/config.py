"""What an encoder declares about itself: its settings, its input, its size. Light to import."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from e2llm_core.counts import Tensors
from storage.places.base import Place


@dataclass(frozen=True)
class InputContract:
    """The signal that an encoder's network computes with.

    Attributes
    ----------
    sfreq_hz
        Sampling rate in hertz.
    unit
        ``"mV"``, ``"uV"`` or ``"V"``: physical signals are converted to it.
    reference
        ``"average"``: the mean over the given channels is subtracted from physical signals; ``"none"``: nothing is.
    patch_samples
        Samples from one time patch to the next.
    channels
        Names of the channels that it knows.
    """

    sfreq_hz: float
    unit: str
    reference: Literal["average", "none"]
    patch_samples: int
    channels: tuple[str, ...]

    @property
    def patch_seconds(self) -> float:
        """Time from one patch to the next."""
        return self.patch_samples / self.sfreq_hz

    def num_patches(self, window_seconds: float) -> int:
        """Count the time patches of a window."""
        return int(window_seconds * self.sfreq_hz) // self.patch_samples


class TowerConfig(BaseModel, ABC):
    """Size and start of an EEG tower: its temporal transformer; an encoder adds its own settings in a subclass.

    The subclass is all that the rest of the project knows of an encoder. Its `name`, of a literal type, is what specs
    and model directories call it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: ClassVar[str]
    """The encoder's name in messages."""
    contract: ClassVar[InputContract]

    name: str
    weights: Place | None = Field(None, description="checkpoint of the encoder; null: a new one")
    temporal_dim: int = Field(512, ge=1)
    temporal_depth: int = Field(4, ge=1)
    temporal_heads: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _temporal_heads_divide(self) -> Self:
        if self.temporal_dim % self.temporal_heads:
            raise ValueError(f"temporal_heads {self.temporal_heads} does not divide temporal_dim {self.temporal_dim}")
        return self

    @property
    def temporal(self) -> dict[str, Any]:
        """Settings of the temporal transformer, as `EEGTower.build` takes them."""
        return {"dim": self.temporal_dim, "depth": self.temporal_depth, "num_heads": self.temporal_heads}

    @property
    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """Settings of the encoder's network, as `make` takes them and `config_dict` of the encoder returns them."""

    @classmethod
    @abstractmethod
    def make(cls, architecture: dict[str, Any]) -> Any:
        """Make a random encoder.

        Parameters
        ----------
        architecture
            Settings of the network; those that are left out have the published values.

        Returns
        -------
        torch.nn.Module
            An `e2llm_core.encoders.base.EEGEncoder`.

        Raises
        ------
        ValueError
            If a setting is unknown or out of its range.
        """

    @classmethod
    @abstractmethod
    def load(cls, encoder: Any, path: Path) -> None:
        """Load a checkpoint strictly into an encoder, in place.

        Raises
        ------
        ValueError
            If the file is absent, unreadable, or does not fit the encoder.
        """

    def start_new(self, encoder: Any) -> None:
        """Change the random weights of a new encoder, in place, where it has a better start than those."""

    def objectives(self) -> Sequence[tuple[float, type]]:
        """Weights and classes of objectives that stage 1 trains for this encoder besides those of its table.

        Each is a subclass of `e2llm_core.stages.stage1.objectives.base.Objective`; one of weight 0 is switched off.
        """
        return ()

    @property
    @abstractmethod
    def patch_width(self) -> int:
        """Number of values that the encoder outputs for one time patch."""

    @abstractmethod
    def encoder_tensors(self) -> list[Tensors]:
        """Parameter tensors of the encoder."""

    @abstractmethod
    def patch_tokens(self, channels: int) -> int:
        """Tokens that one time patch of so many channels passes through the encoder."""

    @abstractmethod
    def patch_flops(self, channels: int) -> float:
        """Floating-point operations of the encoder's forward pass on one time patch of so many channels."""

    @abstractmethod
    def kept_numbers(self, tokens: float) -> float:
        """Numbers that autograd keeps of so many tokens between forward and backward."""

    @abstractmethod
    def working_numbers(self, tokens: float, *, backward: bool) -> float:
        """Numbers that one layer needs at once of so many tokens, forward or also backward."""
