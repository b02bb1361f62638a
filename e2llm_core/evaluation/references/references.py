"""What the model is held against: classical baseline, stage-1 probe, oracle, and predictors that see no EEG."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from e2llm_core.evaluation.items import Items, pair_items
from e2llm_core.evaluation.predictions import prediction_rows
from e2llm_core.evaluation.references import controls
from e2llm_core.evaluation.references.de_svm import (
    LinearClassifier,
    adapt,
    baseline_pairs,
    baseline_windows,
    differential_entropy,
)
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.probe import load_probe
from storage.datasets.seed_vii import CLIP_LABELS
from storage.errors import InputError
from storage.splits import Side, Split
from storage.twin import TwinConfig, subject_latents
from storage.windows import Windows

_READ = 64


class Baseline:
    """Differential entropy + linear SVM on the same windows, split and adaptation as the model, in microvolts.

    No signal is read before the first answer.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Of the solver.
    """

    def __init__(self, data: EEGData, seed: int) -> None:
        self._data, self._seed = data, seed
        self._sides = with_validation(data.split)
        plain = data.cut.model_copy(update={"normalisation": "none", "adaptation": "none"})
        self._windows = Windows(data.store, plain, _whole_sessions(data, self._sides))

    @cached_property
    def _features(self) -> np.ndarray:
        """float32 (windows, features) of all sides."""
        entropy = np.concatenate(
            [differential_entropy(self._windows.read(ids), self._windows.sfreq_hz) for ids in _batches(self._windows)]
        )
        table = self._windows.table
        groups = (table["subject"] + "/" + table["session"]).to_numpy()
        order = table[["position", "stop"]].to_numpy()
        return adapt(entropy, groups, self._data.config.windows.adaptation, order)

    def windows(self) -> pd.DataFrame:
        """Predictions of the IED task on the test side."""
        return self._of_windows[0]

    @cached_property
    def _of_windows(self) -> tuple[pd.DataFrame, LinearClassifier]:
        table = self._windows.table
        ids = table["recording_id"] + "/" + table["trial"].astype(str) + "/" + table["start"].astype(str)
        items = table.assign(item_id=ids)
        sides = {name: side.holds(table) for name, side in self._sides.items()}
        return baseline_windows(items, self._features, sides, self._data.labels, seed=self._seed)

    def pairs(self, test: Items) -> pd.DataFrame:
        """Predictions of the EPC task on the test pairs; trained on as many pairs of the training side."""
        features, tables = [], []
        for name, side in self._sides.items():
            source = self._data.windows(side)
            rows = np.flatnonzero(side.holds(self._windows.table))
            items = test if name == "test" else pair_items(source, 4 * len(test.table), self._seed)
            features.append(self._features[rows][items.windows])
            tables.append(items.table.assign(side=name))
        stacked = np.concatenate(features)
        table = pd.concat(tables, ignore_index=True)
        sides = {name: (table["side"] == name).to_numpy() for name in self._sides}
        first, second = stacked[:, 0], stacked[:, 1]
        predictions, _ = baseline_pairs(table, first, second, sides, self._of_windows[1], seed=self._seed)
        return predictions


def with_validation(split: Split) -> dict[str, Side]:
    """The split's sides; without a validation side, the last training subject is one.

    Raises
    ------
    InputError
        When there is no validation side and one training subject only.
    """
    if split.validation is not None:
        return split.sides
    *fitted, last = split.train.subjects
    if not fitted:
        raise InputError(
            "data.split", "the baseline needs validation trials to choose its cost", "Give the split a validation side."
        )
    return {"train": split.train.of(tuple(fitted)), "validation": split.train.of((last,)), "test": split.test}


def _whole_sessions(data: EEGData, sides: dict[str, Side]) -> pd.DataFrame:
    """All trials of the sessions that a side has trials of: what adaptation may use, as for the model."""
    trials = data.store.trials
    used = np.any([side.holds(trials) for side in sides.values()], axis=0)
    sessions = pd.MultiIndex.from_frame(trials[["subject", "session"]])
    return trials[sessions.isin(sessions[used])]


def probe_predictions(folder: Path, data: EEGData, items: Items, seed: int) -> pd.DataFrame:
    """Stage 1's own label head on the test windows: what the language model could at least say."""
    tower, probe = load_probe(folder)
    source = data.windows(data.split.test)
    parts = [probe.probabilities(tower, source.read(ids)) for ids in _batches(source)]
    return _by_probability(items, np.concatenate(parts), probe.labels, "probe", seed)


def oracle_predictions(config: TwinConfig, data: EEGData, items: Items, seed: int) -> pd.DataFrame:
    """The twin's ceiling: linear discriminant analysis on each clip's true latent gains and burst depth."""

    def latents(subject: str) -> np.ndarray:
        known = subject_latents(config, int(subject))
        return np.column_stack([known.log_gain.reshape(len(CLIP_LABELS), -1), known.burst_depth])

    fitted = data.split.train.rows(data.store.trials)
    places = {subject: np.sort(rows.unique()) - 1 for subject, rows in fitted.groupby("subject")["clip"]}
    train = np.concatenate([latents(subject)[clips] for subject, clips in places.items()])
    truth = np.concatenate([np.array(CLIP_LABELS)[clips] for clips in places.values()])
    model = LinearDiscriminantAnalysis().fit(train, truth)
    by_subject = {subject: model.predict_proba(latents(subject)) for subject in data.split.test.subjects}
    rows = zip(items.table["subject"], items.table["clip"], strict=True)
    known = list(model.classes_)
    probabilities = np.zeros((len(items.table), len(data.labels)))
    columns = [data.labels.index(label) for label in known]
    probabilities[:, columns] = np.stack([by_subject[subject][clip - 1] for subject, clip in rows])
    return _by_probability(items, probabilities, data.labels, "oracle", seed)


def control_predictions(
    data: EEGData, items: Items, task: str, seed: int
) -> dict[str, tuple[pd.DataFrame, dict[str, float]]]:
    """Session-only and session + position: predictions without EEG, each with its own expected scores.

    Where the split does not test new subjects on known clips, no rule says how much of the schedule carries over: it
    depends on which trials were held out, and the answers themselves measure it. Nothing is expected then.
    """
    trials = data.store.trials
    train = data.split.train.rows(trials)
    if task == "EPC":
        options: tuple[str, ...] = (controls.SAME, controls.DIFFERENT)
        answers = {"session_position": controls.session_position_pairs(train, items.table)}
    else:
        options = data.labels
        answers = {
            "session_only": controls.session_only(train, items.table),
            "session_position": controls.session_position(train, items.table),
        }
    known_order = "subject" in data.split.disjoint_on and "clip" in data.split.shared
    expected = _expected_of_new_subjects(trials, items, task) if known_order else {}
    return {
        name: (
            prediction_rows(
                items.table, task=task, model=name, condition=name, labels=options, answers=given, seed=seed
            ),
            expected.get(name, {}),
        )
        for name, given in answers.items()
    }


def _expected_of_new_subjects(trials: pd.DataFrame, items: Items, task: str) -> dict[str, dict[str, float]]:
    """What the order of trials implies for a subject that was not trained on, whoever it is."""
    if task == "EPC":
        return {"session_position": controls.expected_session_position_pairs(trials, items.table)}
    return {
        "session_only": controls.expected_session_only(items.table),
        "session_position": controls.expected_session_position(trials),
    }


def _by_probability(
    items: Items, probabilities: np.ndarray, labels: tuple[str, ...], model: str, seed: int
) -> pd.DataFrame:
    answers = np.array(labels, dtype=object)[probabilities.argmax(axis=1)]
    return prediction_rows(
        items.table,
        task="IED",
        model=model,
        condition="eeg",
        labels=labels,
        answers=answers,
        probabilities=probabilities,
        seed=seed,
    )


def _batches(source: Windows) -> list[np.ndarray]:
    return np.array_split(np.arange(len(source)), -(-len(source) // _READ))
