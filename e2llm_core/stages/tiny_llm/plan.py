"""Settings of the `tiny-llm` job. Light to import."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.llm.families.table import STAND_IN
from e2llm_core.plan import Input
from e2llm_core.sizes.llm import LLMSize
from e2llm_core.sizes.workload import Part, Sample, Workload, number_bytes, text_tokens
from e2llm_core.stages.config import StagePlan
from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS, DEFAULT_FORMS, FormName
from storage.labels import LabelSet

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class TinyLLMConfig(BaseModel):
    """Size of the language model that replaces a pretrained one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(640, ge=300)
    hidden_size: int = Field(128, ge=16)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    intermediate: int = Field(384, ge=16)
    corpus: tuple[FormName, ...] = Field(DEFAULT_FORMS, min_length=1, description="forms of dialogue that it reads")
    corpus_size: int = Field(20_000, ge=100)
    exported: Literal["fp32", "bf16"] = Field("fp32", description="precision of the weights on disk")
    prompt_weight: float = Field(0.1, ge=0, le=1, description="weight of a prompt's tokens beside an answer's")


class TinyLLMPlan(StagePlan):
    """Train a small language model and its tokenizer from scratch, to replace a pretrained one in the demo."""

    kind: Literal["tiny-llm"] = "tiny-llm"
    labels: LabelSet | None = Field(None, description="the only labels of its corpus; null for sets of many kinds")
    model: TinyLLMConfig = Field(default_factory=TinyLLMConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("llm",)

    def inputs(self) -> tuple[Input, ...]:
        """Nothing: its corpus is drawn."""
        return ()

    def workload(self) -> Workload:
        """A whole language model on dialogues of its own corpus."""
        llm = tiny_size(self.model)
        forms = [CORPUS_FORMS[name] for name in self.model.corpus]
        commonest = max(forms, key=lambda form: form.corpus_share)
        tokens = 2 * sum(text_tokens(commonest, 0))
        return Workload(
            stage=self.kind,
            llm=llm,
            tower=None,
            parts=(Part.of("llm", llm.tensors(), trains=True, bytes_each=number_bytes(self.train)),),
            sample=Sample(tokens=tokens, supervised=tokens, segments=0),
            patches=0,
            channels=0,
            lora_modules=None,
            train=self.train,
            assumptions=("a small vocabulary needs twice the tokens of Qwen's",),
        )

    def stage(self) -> "Stage":
        """Build the stage."""
        from e2llm_core.stages.tiny_llm.stage import TextPretraining

        return TextPretraining(self.model, self.labels.names if self.labels else None, self.train.seed)


def tiny_size(config: TinyLLMConfig) -> LLMSize:
    """Size of the demo's language model."""
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
