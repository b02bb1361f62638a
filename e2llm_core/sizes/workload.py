"""A plan in numbers: which parameters, which of them train, and how much one forward pass holds.

Nothing that a plan names has to exist: folders that do are read, for others the shipped defaults stand in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.counts import Tensors, total_numel
from e2llm_core.encoders import default_tower, tower_config
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.sizes.llm import LLMSize
from e2llm_core.sizes.tower import projector_tensors, tokens_per_segment, tower_tensors
from e2llm_core.tasks.dialogue import DialogueForm
from e2llm_core.training.config import TrainConfig
from storage.errors import InputError
from storage.places.location import locate
from storage.windows import WindowConfig

CHARACTERS_PER_TOKEN = 4.2
"""Characters per token of English text in Qwen's tokenizer. Our estimate: planning has no tokenizer."""

TURN_TOKENS = (8, 6)
"""Tokens of ChatML around a question, and around an answer with a think block."""

_EXPERTS = ("gate_proj", "up_proj", "down_proj")


class Part(BaseModel):
    """Parameters of one kind; `bytes_each` is one parameter's as the model holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tensors: tuple[Tensors, ...]
    trains: bool
    bytes_each: int

    @property
    def parameters(self) -> int:
        """Number of them."""
        return total_numel(self.tensors)

    @classmethod
    def of(cls, name: str, tensors: Iterable[Tensors], *, trains: bool, bytes_each: int = 4) -> Part:
        """Put tensors together."""
        return cls(name=name, tensors=tuple(tensors), trains=trains, bytes_each=bytes_each)


class Sample(BaseModel):
    """Means of one training sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: float = Field(ge=0, description="of the language model, EEG placeholders included")
    supervised: float = Field(ge=0, description="tokens that the loss counts")
    segments: float = Field(ge=0, description="EEG windows")


class Workload(BaseModel):
    """What is trained and how: everything that memory and time follow from, besides the GPUs.

    `llm_note` says why a language model is assumed that the spec does not name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    llm: LLMSize | None
    tower: TowerConfig | None
    parts: tuple[Part, ...]
    sample: Sample
    patches: int
    channels: int
    lora_modules: tuple[str, ...] | None
    train: TrainConfig
    assumptions: tuple[str, ...] = ()
    llm_note: str | None = None

    @property
    def value_bytes(self) -> int:
        """Of one number in the forward pass."""
        return 2 if self.train.precision == "bf16" else 4

    @property
    def tower_trains(self) -> bool:
        """Whether the EEG tower's weights train."""
        return any(part.name == "tower" and part.trains for part in self.parts)

    @property
    def trainable(self) -> int:
        """Parameters that train."""
        return sum(part.parameters for part in self.parts if part.trains)

    @property
    def llm_trains(self) -> bool:
        """Whether the language model's own weights train."""
        return any(part.name == "llm" and part.trains for part in self.parts)

    @property
    def adapts_experts(self) -> bool:
        """Whether a mixture's experts have adapters."""
        mixture = self.llm is not None and self.llm.experts > 0
        return mixture and any(name in (self.lora_modules or ()) for name in _EXPERTS)

    def samples_per_pass(self, gpus: int) -> float:
        """Most samples of one forward pass on one worker.

        The one place that knows how micro-batches come about: at most `micro_batch` samples, and for language models
        at most `micro_tokens` tokens (packed, without padding), but never less than one sample.
        """
        most = min(float(self.train.micro_batch), max(self.train.global_batch / gpus, 1.0))
        if self.sample.tokens:
            most = min(most, max(self.train.micro_tokens / self.sample.tokens, 1.0))
        return most


def number_bytes(train: TrainConfig) -> int:
    """Bytes of one number of a model that trains as a whole."""
    return 2 if train.precision == "bf16" else 4


def num_channels(windows: WindowConfig, tower: TowerConfig) -> int:
    """Channels of a window; where the plan names none, all that the encoder knows."""
    return len(windows.channels or tower.contract.channels)


def text_tokens(form: DialogueForm, segment_tokens: int) -> tuple[float, float]:
    """Mean tokens of a form's question, its segments' placeholders and markers included, and of its answer."""
    shown = form.num_segments * (segment_tokens + 2) if segment_tokens else 0
    return (
        form.text.question / CHARACTERS_PER_TOKEN + TURN_TOKENS[0] + shown,
        form.text.answer / CHARACTERS_PER_TOKEN + TURN_TOKENS[1],
    )


def mean_sample(forms: Sequence[DialogueForm], segment_tokens: int) -> Sample:
    """A mean sample of forms of dialogue in equal shares."""
    pairs = [text_tokens(form, segment_tokens) for form in forms]
    supervised = sum(answer for _, answer in pairs) / len(pairs)
    segments = sum(form.num_segments for form in forms) / len(forms)
    return Sample(
        tokens=round(sum(question for question, _ in pairs) / len(pairs) + supervised, 1),
        supervised=round(supervised, 1),
        segments=segments,
    )


def tower_of(model: str) -> tuple[TowerConfig, tuple[str, ...]]:
    """Read the tower's settings from a model directory; the default's where there is none, with a note."""
    if not locate(model).exists("tower.json"):
        tower = default_tower()
        return tower, (f"{model} is not there: {described(tower)} is assumed",)
    content = read_json(model, "tower.json")
    return tower_config(content.get("encoder") or {}, content.get("temporal") or {}), ()


def described(tower: TowerConfig) -> str:
    """Name a tower of default size in a note."""
    return f"{tower.title} of its default size with {tower.temporal_depth} temporal layers"


def read_json(model: str, name: str) -> Any:
    """Read a JSON file of a model directory.

    Raises
    ------
    InputError
        When it is not JSON.
    """
    try:
        return json.loads(locate(model).read(name))
    except ValueError as error:
        raise InputError(f"{model}/{name}", "is not JSON", "Train that stage again.") from error


def language_workload(
    stage: str,
    train: TrainConfig,
    windows: WindowConfig,
    llm: LLMSize,
    tower: TowerConfig,
    projector: ProjectorConfig,
    forms: Sequence[DialogueForm],
    notes: tuple[str, ...],
    *,
    llm_trains: bool = False,
) -> Workload:
    """The composite model with a frozen tower and a projector that trains.

    Parameters
    ----------
    stage, train, windows
        Fields of the plan.
    llm, tower, projector
        Sizes of the model's parts.
    forms
        Forms of dialogue, in equal shares.
    notes
        Assumptions behind these numbers.
    llm_trains
        Whether the language model's own weights train.
    """
    width = number_bytes(train) if llm_trains else 4
    patches = tower.contract.num_patches(windows.window_seconds)
    sample = mean_sample(forms, tokens_per_segment(projector, patches))
    text = f"{sample.tokens:g} tokens, {sample.supervised:g} of them supervised"
    return Workload(
        stage=stage,
        llm=llm,
        tower=tower,
        parts=(
            Part.of("llm", llm.tensors(), trains=llm_trains, bytes_each=number_bytes(train)),
            Part.of("tower", tower_tensors(tower), trains=False),
            Part.of(
                "projector",
                projector_tensors(projector, tower.temporal_dim, llm.hidden),
                trains=True,
                bytes_each=width,
            ),
        ),
        sample=sample,
        patches=patches,
        channels=num_channels(windows, tower),
        lora_modules=None,
        train=train,
        assumptions=(*notes, f"a mean sample has {text} ({CHARACTERS_PER_TOKEN:g} characters per token)"),
    )
