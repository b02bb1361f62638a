"""The table of hyperparameters in docs/hyperparameters.md, from jobs/sizes.toml: ``python -m jobs.sizes``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.stages.config import StagePlan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import Stage3Plan
from jobs.load import load_spec
from jobs.spec import SPECS

FOLDER = Path(__file__).resolve().parent


class Size(BaseModel):
    """One size of the language model and what each stage's spec is changed by.

    Attributes
    ----------
    gpus
        H200s on which the row fits; 0 for the demo, which runs on CPUs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    llm: str
    gpus: int = Field(ge=0)
    stage1: tuple[str, ...]
    stage2: tuple[str, ...]
    stage3: tuple[str, ...]

    def plan(self, stage: str) -> StagePlan:
        """The stage's validated settings at this size.

        Raises
        ------
        InputError
            When an override does not fit the spec.
        """
        folder = FOLDER if self.gpus else FOLDER / "demo"
        overrides = list(getattr(self, stage))
        if stage != "stage1" and self.gpus:
            overrides.append(f"model.llm={self.llm}")
        spec = load_spec(folder / f"{stage}.yaml", overrides, SPECS).spec
        assert isinstance(spec, StagePlan)
        return spec


def sizes() -> list[Size]:
    """All rows of jobs/sizes.toml."""
    content = tomllib.loads((FOLDER / "sizes.toml").read_text(encoding="utf-8"))
    return [Size.model_validate(row) for row in content["size"]]


def rows() -> list[str]:
    """Lines of the Markdown table: one per size and stage."""
    lines = [
        "| size | stage | peak rates | batch | per pass | LoRA | warm-up | steps | precision | ZeRO | offload | H200 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes():
        for stage in ("stage1", "stage2", "stage3"):
            plan = size.plan(stage)
            train = plan.train
            rates = ", ".join(
                f"{group} {train.learning_rates.get(group, train.learning_rate):g}" for group in plan.groups
            )
            limit = f"{train.micro_batch} samples"
            if isinstance(plan, Stage2Plan | Stage3Plan):
                limit += f", {train.micro_tokens:,} tokens"
            if train.activation_checkpointing:
                limit += ", recomputed"
            lora = "-"
            if isinstance(plan, Stage3Plan) and plan.train.lora is not None:
                settings = plan.train.lora
                where = "all linear layers" if "gate_proj" in settings.target_modules else "attention"
                lora = f"r {settings.r}, alpha {settings.alpha}, {where}"
            cells = [
                size.name,
                stage[-1],
                rates,
                str(train.global_batch),
                limit,
                lora,
                f"{train.warmup_fraction:.0%}",
                f"{train.max_steps:,}",
                train.precision,
                str(train.zero_stage),
                train.offload,
                str(size.gpus or "CPU"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
