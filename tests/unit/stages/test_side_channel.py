"""At inference the language model sees the tower's tokens and text, nothing else.

Everything that could tell it more is replaced by NaN: the signal measures, the labels of the store, stage 1's label
head and the spread of the measures in the model's folder. Every answer must stay what it was, bit by bit.
"""

import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from e2llm_core.claims.measures import SignalMeasures
from e2llm_core.evaluation.answers import ItemAnswerer
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.items import Forced, Request
from e2llm_core.inference.config import ScoringPlan
from e2llm_core.inference.predictor import Predictor
from e2llm_core.inference.scoring import WindowScorer
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.measured import MeasuredWindows, measures_of
from e2llm_core.stages.probe import CONTENT, HEAD, load_probe
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.tasks.items import EEG, RANDOM_EEG
from e2llm_core.tasks.question import LISTED, Question
from e2llm_core.tasks.registry import TASKS
from storage.store import Store
from tests.askable import askable

WINDOWS = np.arange(4)


@pytest.fixture(scope="module", params=["mlp", "worded"])
def stage2_folder(request, data, tower_folder, llm_folder, exported) -> Path:
    """A model that reads quantities for its prefix, and one that does not."""
    folder = llm_folder.parents[1] / f"stage2-{request.param}" / "model"
    folder.mkdir(parents=True)
    train = LanguageTrainConfig(claims=ClaimChoice(smallest=0, reliability=0))
    exported(Stage2(data, tower_folder, str(llm_folder), ProjectorConfig(kind=request.param), train), folder)
    return folder


@pytest.fixture
def blind(monkeypatch, stage2_folder, tmp_path) -> Callable[[], Path]:
    """Replace all but signals, tower, language model and text by NaN; gives the folder of the model that is left."""

    def blinded() -> Path:
        beside = f"blind-{stage2_folder.parent.name}-{tmp_path.name}"
        folder = stage2_folder.parents[1] / beside / "model"  # it names its language model from here
        shutil.copytree(stage2_folder, folder)
        head = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(folder / HEAD).items()}
        save_file(head, folder / HEAD)
        content = json.loads((folder / CONTENT).read_text())
        known = content["quantities"]
        content["quantities"] = {name: dict.fromkeys(fields, float("nan")) for name, fields in known.items()}
        (folder / CONTENT).write_text(json.dumps(content))

        measure, patch_powers, trials = SignalMeasures.__call__, SignalMeasures.patch_powers, Store.trials.func
        monkeypatch.setattr(SignalMeasures, "__call__", lambda *given: np.full_like(measure(*given), np.nan))
        monkeypatch.setattr(SignalMeasures, "patch_powers", lambda *given: np.full_like(patch_powers(*given), np.nan))
        unlabelled = cached_property(lambda store: trials(store).assign(label=np.nan, label_id=np.nan))
        unlabelled.__set_name__(Store, "trials")
        monkeypatch.setattr(Store, "trials", unlabelled)
        monkeypatch.setattr(Store, "require_labels", lambda store: None)
        return folder

    return blinded


def listed_for(question: Question, count: int) -> tuple[str, ...]:
    """What each item's question says in its own place, if it has one."""
    return ("sad",) * count if LISTED in question.user else ()


def answers_of_predictor(data: EEGData, folder: Path) -> list[Any]:
    """Of the predictor that all others use, to every task in all of its wordings."""
    predictor, source = Predictor(folder), data.windows(data.split.test)
    found: list[Any] = []
    for task in askable(data.labels).values():
        segments = source.read(np.arange(3 * task.num_segments)).reshape(3, task.num_segments, -1, source.n_times)
        for prompt in task.prompts:
            question = task.question(predictor.labels, prompt)
            asked = (question, segments, listed_for(question, len(segments)))
            found += [predictor.likelihood(*asked).tolist(), predictor.generate(*asked)]
    return found


def answers_of_evaluation(data: EEGData, folder: Path) -> list[Any]:
    """Of what an evaluation hosts, about EEG and about noise."""
    answerer = ItemAnswerer(EvaluationPlan(data=data.config, model=str(folder)))
    found: list[Any] = []
    for task in askable(data.labels).values():
        question = task.question(data.labels)
        windows = np.resize(WINDOWS, (4, task.num_segments))
        for condition in (EEG, RANDOM_EEG):
            listed = listed_for(question, len(windows))
            request = Request(condition, np.arange(len(windows)), windows, listed=listed)
            begun = Forced(request, ("Alpha power",) * len(windows), (question.options,) * len(windows))
            found += [answerer.likelihood(question, request).tolist(), answerer.generate(question, request)]
            found.append(answerer.forced(question, begun).tolist())
    return found


def answers_of_scoring(data: EEGData, folder: Path) -> list[Any]:
    """Rows of scores."""
    plan = ScoringPlan(store=data.config.store, model=str(folder), stride_seconds=1.0)
    rows = WindowScorer(plan).score(WINDOWS)
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


WAYS = {"predictor": answers_of_predictor, "evaluation": answers_of_evaluation, "scoring": answers_of_scoring}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_answers_come_from_the_towers_tokens_and_text_alone(way, data, stage2_folder, blind):
    before = way(EEGData.open(data.config), stage2_folder)
    folder = blind()
    blinded = EEGData.open(data.config)
    assert way(blinded, folder) == before


def test_what_is_blinded_is_what_a_model_could_be_told(data, blind):
    tower, probe = load_probe(blind())
    blinded = EEGData.open(data.config)
    source, measured = blinded.windows(blinded.split.test), blinded.measured(blinded.split.test)
    assert np.isnan(measures_of(measured)(measured.read(WINDOWS))).all()
    assert np.isnan(MeasuredWindows(measured)(WINDOWS)).all()
    assert np.isnan(probe.probabilities(tower, source.read(WINDOWS))).all()
    assert np.isnan(probe.scaler.std).all()
    assert source.table[["label", "label_id"]].isna().all(axis=None)
    assert np.isfinite(source.read(WINDOWS)).all()


def leak_measures(answerer: ItemAnswerer, segments: np.ndarray) -> np.ndarray:
    return segments + 1e-3 * measures_of(answerer._source)(segments[:, 0]).mean()


def leak_labels(answerer: ItemAnswerer, segments: np.ndarray) -> np.ndarray:
    return segments + 1e-3 * np.float32(pd.to_numeric(answerer._source.table["label_id"]).mean())


def leak_probe(answerer: ItemAnswerer, segments: np.ndarray) -> np.ndarray:
    tower, probe = load_probe(Path(answerer.place))
    return segments + probe.probabilities(tower, segments[:, 0]).max()


@pytest.mark.parametrize("leak", [leak_measures, leak_labels, leak_probe])
def test_a_side_channel_would_be_noticed(leak, data, stage2_folder, blind, monkeypatch):
    plain = ItemAnswerer._segments
    monkeypatch.setattr(ItemAnswerer, "_segments", lambda self, request: leak(self, plain(self, request)))

    def answer(folder: Path) -> np.ndarray:
        answerer = ItemAnswerer(EvaluationPlan(data=data.config, model=str(folder)))
        answerer.place = folder
        (task, *_) = [task for task in TASKS.values() if task.num_segments == 1]
        return answerer.likelihood(task.question(data.labels), Request(EEG, WINDOWS, WINDOWS[:, None]))

    before = answer(stage2_folder)
    assert np.isfinite(before).all()
    assert not np.array_equal(answer(blind()), before)
