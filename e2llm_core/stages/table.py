"""The table of stages: from a plan to the stage that the trainer runs."""

from collections.abc import Callable
from typing import Any

from e2llm_core.stages.config import Plan, Stage1Plan, Stage2Plan, Stage3Plan, TinyLLMPlan
from e2llm_core.stages.data import EEGData
from e2llm_core.training.offload import check_offload
from e2llm_core.training.stage import Stage
from storage.places.fetching import fetched


def build_stage(plan: Plan) -> Stage:
    """Make the stage that a plan describes; stage 1 reads a sample of the training windows to fit its targets.

    Raises
    ------
    InputError
        If this machine lacks what the plan needs; before anything is read.
    """
    check_offload(plan.train)
    return _TABLE[next(kind for kind in type(plan).__mro__ if kind in _TABLE)](plan)


def _tiny_llm(plan: TinyLLMPlan) -> Stage:
    from e2llm_core.stages.text import TextPretraining

    return TextPretraining(plan.model, plan.labels.names, plan.train.seed)


def _stage1(plan: Stage1Plan) -> Stage:
    from e2llm_core.stages.stage1 import Stage1

    return Stage1(EEGData.open(plan.data), plan.model, plan.losses, plan.train.seed, plan.train.balance)


def _stage2(plan: Stage2Plan) -> Stage:
    from e2llm_core.stages.stage2 import Stage2

    tower = fetched(plan.model.tower)
    data = EEGData.open(plan.data, tower)
    return Stage2(data, tower, plan.model.llm, plan.model.projector, plan.train)


def _stage3(plan: Stage3Plan) -> Stage:
    from e2llm_core.stages.stage3 import Stage3

    data = EEGData.open(plan.data, fetched(plan.model.start))
    return Stage3(data, plan.model.start, plan.train.lora, plan.tasks, plan.train)


_TABLE: dict[Any, Callable[[Any], Stage]] = {
    TinyLLMPlan: _tiny_llm,
    Stage1Plan: _stage1,
    Stage2Plan: _stage2,
    Stage3Plan: _stage3,
}
