"""From a stage's plan to numbers: which parameters, which of them train, and how much one forward pass holds.

Nothing that the spec names has to exist: folders that do are read, for others the shipped defaults stand in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.llm.families.table import STAND_IN
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.sizes.llm import LLMSize, Tensors, llm_size, size_from_config, total_numel
from e2llm_core.sizes.tower import patches, projector_tensors, tokens_per_segment, tower_tensors
from e2llm_core.stages.config import StagePlan
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import LoraSettings, Stage3Plan
from e2llm_core.stages.tiny_llm.plan import TinyLLMConfig, TinyLLMPlan
from e2llm_core.tasks.corpus import corpus_forms
from e2llm_core.tasks.dialogue import DialogueForm
from e2llm_core.tasks.registry import DESCRIPTION, TASKS
from e2llm_core.tower.config import TowerConfig
from e2llm_core.training.config import TrainConfig
from storage.errors import InputError
from storage.places.location import locate

DEFAULT_LLM = "Qwen/Qwen3-8B"
"""What the shipped stage 2 aligns: stage 3's language model where nothing says otherwise."""

CHARACTERS_PER_TOKEN = 4.2
"""Of English text in Qwen's tokenizer. Ours: an estimate, no tokenizer is at hand while planning."""

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

    stage: Literal["tiny-llm", "stage1", "stage2", "stage3"]
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


def workload(plan: StagePlan) -> Workload:
    """Read a stage's plan.

    Raises
    ------
    InputError
        When the language model's size is not known.
    """
    if isinstance(plan, Stage1Plan):
        return _stage1(plan)
    if isinstance(plan, Stage2Plan):
        return _stage2(plan)
    if isinstance(plan, Stage3Plan):
        return _stage3(plan)
    if isinstance(plan, TinyLLMPlan):
        return _tiny_llm(plan)
    raise TypeError(type(plan).__name__)


def _bytes(train: TrainConfig) -> int:
    return 2 if train.precision == "bf16" else 4


def _part(name: str, tensors: list[Tensors], trains: bool, bytes_each: int) -> Part:
    return Part(name=name, tensors=tuple(tensors), trains=trains, bytes_each=bytes_each)


def _channels(plan: Stage1Plan | Stage2Plan | Stage3Plan) -> int:
    return len(plan.data.windows.channels or ()) or 62


def _stage1(plan: Stage1Plan) -> Workload:
    tower, width = tower_tensors(plan.model), _bytes(plan.train)
    heads = [Tensors(name="heads", numel=plan.model.temporal_dim * 128)]
    return Workload(
        stage="stage1",
        llm=None,
        tower=plan.model,
        parts=(_part("tower", tower, True, width), _part("heads", heads, True, width)),
        sample=Sample(tokens=0, supervised=0, segments=1),
        patches=patches(plan.data.windows.window_seconds),
        channels=_channels(plan),
        lora_modules=None,
        train=plan.train,
        assumptions=("stage 1's heads have 128 outputs in all",),
    )


def _tiny_llm(plan: TinyLLMPlan) -> Workload:
    llm = tiny_size(plan.model)
    commonest = max(corpus_forms(), key=lambda form: form.corpus_share)
    tokens = 2 * sum(text_tokens(commonest, 0))
    return Workload(
        stage="tiny-llm",
        llm=llm,
        tower=None,
        parts=(_part("llm", llm.tensors(), True, _bytes(plan.train)),),
        sample=Sample(tokens=tokens, supervised=tokens, segments=0),
        patches=0,
        channels=0,
        lora_modules=None,
        train=plan.train,
        assumptions=("a small vocabulary needs twice the tokens of Qwen's",),
    )


def tiny_size(config: TinyLLMConfig) -> LLMSize:
    """Size of the demo's stand-in."""
    return LLMSize(
        name="tiny-llm",
        model_type=STAND_IN,
        hidden=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.hidden_size // config.heads,
        intermediate=config.intermediate,
        vocab=config.vocab_size,
        tied=True,
    )


def text_tokens(form: DialogueForm, segment_tokens: int) -> tuple[float, float]:
    """Mean tokens of a form's question, its segments' placeholders and markers included, and of its answer."""
    shown = form.num_segments * (segment_tokens + 2) if segment_tokens else 0
    return (
        form.text.question / CHARACTERS_PER_TOKEN + TURN_TOKENS[0] + shown,
        form.text.answer / CHARACTERS_PER_TOKEN + TURN_TOKENS[1],
    )


def _sample(forms: Sequence[DialogueForm], segment_tokens: int) -> Sample:
    pairs = [text_tokens(form, segment_tokens) for form in forms]
    supervised = sum(answer for _, answer in pairs) / len(pairs)
    segments = sum(form.num_segments for form in forms) / len(forms)
    return Sample(
        tokens=round(sum(question for question, _ in pairs) / len(pairs) + supervised, 1),
        supervised=round(supervised, 1),
        segments=segments,
    )


def _stage2(plan: Stage2Plan) -> Workload:
    tower, notes = _tower(plan.model.tower)
    return _language(plan, llm_size(plan.model.llm), tower, plan.model.projector, [DESCRIPTION], None, notes)


def _stage3(plan: Stage3Plan) -> Workload:
    start, lora, tasks = plan.model.start, plan.train.lora, [TASKS[name] for name in plan.tasks]
    if locate(start).exists("config.json"):
        content = _json(start, "config.json")
        llm = size_from_config(content["text_config"], start)
        given = {key: content["projector"].get(key) for key in ("kind", "hidden", "num_queries")}
        projector = ProjectorConfig.model_validate({key: value for key, value in given.items() if value is not None})
        tower, notes = _tower(start)
        return _language(plan, llm, tower, projector, tasks, lora, notes)
    notes = (f"{start} is not there: an mlp projector and EEGPT large with four temporal layers are assumed",)
    llm = llm_size(plan.model.llm or DEFAULT_LLM)
    work = _language(plan, llm, TowerConfig(), ProjectorConfig(), tasks, lora, notes)
    if plan.model.llm is not None:
        return work
    note = f"Assumes {DEFAULT_LLM}, the shipped default (model.llm=... names another): there is no {start}."
    return work.model_copy(update={"llm_note": note})


def _tower(model: str) -> tuple[TowerConfig, tuple[str, ...]]:
    if not locate(model).exists("tower.json"):
        return TowerConfig(), (f"{model} is not there: EEGPT large with four temporal layers is assumed",)
    content = _json(model, "tower.json")
    encoder, temporal = content.get("encoder") or {}, content.get("temporal") or {}
    values = {key: encoder[key] for key in ("dim", "depth", "num_heads", "n_summary", "mlp_ratio") if key in encoder}
    names = {"dim": "temporal_dim", "depth": "temporal_depth", "num_heads": "temporal_heads"}
    values |= {names[key]: temporal[key] for key in names if key in temporal}
    return TowerConfig.model_validate(values), ()


def _json(model: str, name: str) -> Any:
    try:
        return json.loads(locate(model).read(name))
    except ValueError as error:
        raise InputError(f"{model}/{name}", "is not JSON", "Train that stage again.") from error


def _language(
    plan: Stage2Plan | Stage3Plan,
    llm: LLMSize,
    tower: TowerConfig,
    projector: ProjectorConfig,
    forms: Sequence[DialogueForm],
    lora: LoraSettings | None,
    notes: tuple[str, ...],
) -> Workload:
    train, full = plan.train, isinstance(plan, Stage3Plan) and lora is None
    seconds = plan.data.windows.window_seconds
    width = _bytes(train) if full else 4
    parts = [
        _part("llm", llm.tensors(), full, _bytes(train)),
        _part("tower", tower_tensors(tower), False, 4),
        _part("projector", projector_tensors(projector, tower.temporal_dim, llm.hidden), True, width),
    ]
    modules = None
    if lora is not None:
        modules = tuple(lora.target_modules)
        parts.append(_part("lora", llm.lora_tensors(lora.r, modules), True, 4))
    sample = _sample(forms, tokens_per_segment(projector, seconds))
    text = f"{sample.tokens:g} tokens, {sample.supervised:g} of them supervised"
    return Workload(
        stage="stage3" if isinstance(plan, Stage3Plan) else "stage2",
        llm=llm,
        tower=tower,
        parts=tuple(parts),
        sample=sample,
        patches=patches(seconds),
        channels=_channels(plan),
        lora_modules=modules,
        train=train,
        assumptions=(*notes, f"a mean sample has {text} ({CHARACTERS_PER_TOKEN:g} characters per token)"),
    )
