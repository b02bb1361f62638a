"""Settings of the training loop, the same for every stage."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PATIENCE = timedelta(hours=4)
"""How long ranks wait for each other: one may download or convert a checkpoint, or export a model, of a terabyte.

Steps that hang are ended by the watchdog (:mod:`e2llm_core.training.faults`)."""
NOT_LEARNED = {
    "micro_batch",
    "micro_tokens",
    "activation_checkpointing",
    "offload",
    "nvme_path",
    "attention",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
}
"""Settings that affect speed, memory and logging but not the result (to rounding), so not the run's identity.

In bf16 at `zero_stage` 1 a resumed run must keep its `offload`: DeepSpeed uses another optimizer with it, and neither
optimizer reads the other's checkpoints."""


class TrainConfig(BaseModel):
    """How long, how fast and how a stage trains. Batch sizes count samples over all workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_steps: int = Field(1000, ge=1)
    global_batch: int = Field(64, ge=1)
    micro_batch: int = Field(32, ge=1, description="samples per worker and forward pass, at most")
    micro_tokens: int = Field(
        4096, ge=16, description="tokens per worker and forward pass of a language model; one sample may exceed it"
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: for what trains from scratch without ZeRO; see e2llm_core.training.muon"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1)
    learning_rates: dict[str, float] = Field(
        default_factory=dict, description="own rate of a parameter group, e.g. {lora: 2.0e-4}"
    )
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    gradient_clip: float = Field(1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 3
    activation_checkpointing: bool = False
    offload: Literal["none", "cpu", "nvme"] = Field(
        "none", description="cpu: optimizer state and, under ZeRO-3, parameters; nvme: the parameters go to nvme_path"
    )
    nvme_path: Path | None = Field(None, description="for offload nvme: a folder on a local disk of every worker")
    seed: int = Field(0, ge=0)
    log_every: int = Field(10, ge=1)
    validate_every: int = Field(100, ge=1)
    checkpoint_every: int = Field(50, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    select: Literal["last", "best"] = Field(
        "last", description="weights to export: the last, or the best on validation"
    )

    @model_validator(mode="after")
    def _offload_has_what_it_needs(self) -> Self:
        if (self.offload == "nvme") != (self.nvme_path is not None):
            raise ValueError("offload nvme and nvme_path go together: give both or neither")
        lowest = {"none": 0, "cpu": 1, "nvme": 3}[self.offload]
        if self.zero_stage < lowest:
            raise ValueError(f"offload {self.offload} needs zero_stage {lowest} or more, not {self.zero_stage}")
        return self

    @model_validator(mode="after")
    def _muon_sees_whole_matrices(self) -> Self:
        if self.optimizer == "muon" and self.zero_stage:
            raise ValueError(f"optimizer muon needs zero_stage 0, not {self.zero_stage}: it works on whole matrices")
        return self

    @model_validator(mode="after")
    def _gradients_add_up_in_float32(self) -> Self:
        if self.precision == "bf16" and self.zero_stage == 0:
            raise ValueError("precision bf16 needs zero_stage 1 or more, not 0: without ZeRO gradients add up in bf16")
        return self
