"""The table of stages. Light to import."""

from typing import get_args

from e2llm_core.stages.config import StagePlan
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.stages.tiny_llm.plan import TinyLLMPlan

AnyPlan = TinyLLMPlan | Stage1Plan | Stage2Plan | Stage3Plan
STAGES: dict[str, type[StagePlan]] = {plan.model_fields["kind"].default: plan for plan in get_args(AnyPlan)}
"""Kind -> plan of the stage."""
