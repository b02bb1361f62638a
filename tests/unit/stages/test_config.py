import pytest
from pydantic import ValidationError

from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.stages.tiny_llm.plan import TinyLLMConfig, TinyLLMPlan
from e2llm_core.stages.tiny_llm.stage import TextPretraining

DATA = {"store": "store.zarr"}
PLANS = {
    "text": (TinyLLMPlan, {"labels": {"name": "two", "names": ["sad", "happy"]}}),
    "stage1": (Stage1Plan, {"data": DATA}),
    "stage2": (Stage2Plan, {"data": DATA, "model": {"tower": "tower", "llm": "llm"}}),
    "stage3": (Stage3Plan, {"data": DATA, "model": {"start": "start"}}),
}


def groups_of(stage) -> set[str]:
    return {group.name for group in stage.build()[1]}


def plan(name, **train):
    model, content = PLANS[name]
    return model.model_validate({**content, "train": train})


def test_plans_name_the_groups_that_their_stages_have(make_stage1, make_stage2, make_stage3):
    text = TextPretraining(TinyLLMConfig(vocab_size=400, corpus_size=100), ("sad", "happy"), 0)
    stages = {"text": text, "stage1": make_stage1(), "stage2": make_stage2(), "stage3": make_stage3()}
    for name, stage in stages.items():
        assert groups_of(stage) == set(plan(name).groups)
    assert groups_of(make_stage3(lora=None)) == set(plan("stage3", lora=None).groups)


@pytest.mark.parametrize("name", PLANS)
def test_a_rate_for_a_group_that_does_not_exist_is_refused(name):
    known = plan(name).groups[0]
    assert plan(name, learning_rates={known: 0.01}).train.learning_rates == {known: 0.01}
    with pytest.raises(ValidationError, match=f"no group typo; it has .*{known}"):
        plan(name, learning_rates={"typo": 0.01})


def test_a_rate_for_adapters_needs_adapters():
    with pytest.raises(ValidationError, match="no group lora; it has projector, llm"):
        plan("stage3", lora=None, learning_rates={"lora": 0.01})
