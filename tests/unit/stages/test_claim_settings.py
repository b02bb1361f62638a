"""What is measured and claimed, and how claims are said, are settings."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from e2llm_core.claims.claims import statements_in
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.inputs import StoreLabels
from e2llm_core.stages.config import DataConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.language import ClaimedWindows
from e2llm_core.stages.probe import load_scaler
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.stages.stage3.plan import Stage3Plan, Stage3TrainConfig
from e2llm_core.tasks.circumplex import AFFECTS
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.tasks.registry import DESCRIPTION, LABELLING, TASKS
from storage.errors import InputError
from storage.labels import SEED
from storage.store import create_store

PLAIN = ClaimChoice(reliability=0)
VARIED = PLAIN.model_copy(update={"wording": "varied"})


@pytest.fixture
def scaler(data, tower_folder):
    return load_scaler(tower_folder, data.quantities)


def test_varied_claims_are_said_with_their_strength_and_change_nothing_else(data, scaler):
    """The words of claims are drawn last, so that question and coin are those of canonical claims."""
    plain, varied = (ClaimedWindows(data, data.split.train, scaler, choice) for choice in (PLAIN, VARIED))
    said = set()
    for form in (DESCRIPTION, LABELLING):
        for window in range(len(plain)):
            one, other = (form.dialogue(side, (window,), np.random.default_rng(window)) for side in (plain, varied))
            facts = plain.facts(window)
            assert one.user == other.user
            assert (one.thinking is None) == (other.thinking is None)
            if text := one.thinking or (form is DESCRIPTION and one.answer):
                assert text.startswith(" ".join(claim.sentence() for claim in facts.claims))
                found = statements_in(other.thinking or other.answer)
                assert (found.claims, found.unreadable) == (varied.facts(window).claims, 0)
                said.add(other.thinking or other.answer)
            assert {claim.strength for claim in facts.claims} == {"plain"}
    assert {claim.strength for text in said for claim in statements_in(text).claims} > {"plain"}
    assert any("than" in text and "bursts" not in text for text in said)


def test_a_rationale_may_begin_with_valence_and_arousal(data, scaler):
    """The sentence is drawn from nothing, so that claims and question are those without it."""
    choice = PLAIN.model_copy(update={"affect": True})
    plain, felt = (ClaimedWindows(data, data.split.train, scaler, one) for one in (PLAIN, choice))
    for window in range(len(plain)):
        for form in (DESCRIPTION, LABELLING):
            one, other = (form.dialogue(side, (window,), np.random.default_rng(window)) for side in (plain, felt))
            text, longer = one.thinking or one.answer, other.thinking or other.answer
            thinks = form is DESCRIPTION or one.thinking is not None
            opening = f"The state is {AFFECTS[plain.label(window)].words}. " if thinks else ""
            assert longer == opening + text


def test_labels_without_valence_are_refused_before_anything_starts(data, tmp_path):
    folder = tmp_path / "other.zarr"
    create_store(folder, dataset="other", label_set=SEED)
    plain = Stage3Plan(data={"store": str(folder)}, model={"start": "m"}, tasks=("IED",))
    felt = plain.model_copy(update={"train": Stage3TrainConfig(claims=ClaimChoice(affect=True))})
    sorting = plain.model_copy(update={"tasks": ("ESS",)})
    evaluated = EvaluationPlan(data={"store": str(folder)}, model="m", tasks=("IED", "ESS"))

    def check(plan):
        for one in plan.inputs():
            if isinstance(one, StoreLabels):
                one.digest()

    check(plain)
    with pytest.raises(InputError, match=r"train\.claims\.affect: no valence and arousal are known of negative"):
        check(felt)
    for plan in (sorting, evaluated):
        with pytest.raises(InputError, match="tasks: ESS: no valence and arousal are known of negative"):
            check(plan)
    check(felt.model_copy(update={"data": data.config, "tasks": ("ESS",)}))
    with pytest.raises(InputError, match="tasks: ESS: happy, sad are fewer than 3 levels"):
        TASKS["ESS"].check_labels(("happy", "sad"), "tasks")


def test_a_window_without_reliable_quantities_has_no_claims(data, scaler):
    scaler = replace(scaler, reliability=np.full(len(scaler.names), np.nan))
    strict = ClaimedWindows(data, data.split.train, scaler, ClaimChoice(reliability=0.5))
    assert strict.facts(0).claims == ()
    assert len(ClaimedWindows(data, data.split.train, scaler, PLAIN).facts(0).claims) == 3


def test_the_kinds_of_the_data_are_measured_regressed_and_claimed(data, tower_config):
    config = data.config.model_copy(update={"claims": ("slope", "power")})
    other = EEGData.open(config)
    stage = Stage1(other, tower_config, Stage1Losses(), seed=0)
    names = stage.scaler.names
    assert {name.split()[0] for name in names} == {"slope", "power"}
    assert names == other.quantities
    assert names.index("power delta central") < names.index("slope central")
    model, _ = stage.build()
    assert model.measure_head.out_features == len(names)
    every = ClaimChoice(number=len(names), smallest=0, reliability=0)
    claimed = ClaimedWindows(other, other.split.train, stage.scaler, every)
    kinds = {claim.quantity.kind for window in range(len(claimed)) for claim in claimed.facts(window).claims}
    assert kinds == {"slope", "power"}


@pytest.mark.parametrize(("claims", "problem"), [(["tone"], "is none of power, bursts"), ([], "at least 1 item")])
def test_kinds_that_are_none_are_refused(data, claims, problem):
    with pytest.raises(ValidationError, match=problem):
        DataConfig(store=data.config.store, claims=claims)
