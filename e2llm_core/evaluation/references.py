"""What the model is held against: classical baseline, stage-1 probe, oracle, and predictors that see no EEG."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from e2llm_core.evaluation import controls
from e2llm_core.evaluation.baseline import (
    LinearClassifier,
    adapt,
    baseline_pairs,
    baseline_windows,
    differential_entropy,
)
from e2llm_core.evaluation.items import Items, pair_items
from e2llm_core.evaluation.predictions import prediction_rows
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.probe import load_probe
from storage.seed_vii import CLIP_LABELS
from storage.twin import TwinConfig, subject_latents
from storage.windows import Windows

_READ = 64


class Baseline:
    """Differential entropy + linear SVM on the same windows, split and adaptation as the model, in microvolts.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Of the solver.
    """

    def __init__(self, data: EEGData, seed: int) -> None:
        self._data, self._seed = data, seed
        split = data.split
        self._sides = {
            "train": split.train,
            "validation": split.validation or split.train[-1:],
            "test": split.test,
        }
        if not split.validation:
            self._sides["train"] = split.train[:-1]
        self._subjects = [subject for side in self._sides.values() for subject in side]
        plain = data.config.windows.model_copy(update={"normalisation": "none", "adaptation": "none"})
        self._windows = Windows(data.store, plain, self._subjects)
        entropy = np.concatenate(
            [differential_entropy(self._windows.read(ids), self._windows.sfreq_hz) for ids in _batches(self._windows)]
        )
        table = self._windows.table
        groups = (table["subject"] + "/" + table["session"]).to_numpy()
        self._features = adapt(entropy, groups, data.config.windows.adaptation)

    def windows(self) -> tuple[pd.DataFrame, LinearClassifier]:
        """Predictions of the IED task on the test subjects, and the classifier."""
        table = self._windows.table
        ids = table["recording_id"] + "/" + table["trial"].astype(str) + "/" + table["start"].astype(str)
        items = table.assign(item_id=ids)
        return baseline_windows(items, self._features, self._sides, self._data.labels, seed=self._seed)

    def pairs(self, classifier: LinearClassifier, test: Items) -> pd.DataFrame:
        """Predictions of the EPC task on the test pairs; trained on as many pairs of the training subjects."""
        features, tables = [], []
        for side, subjects in self._sides.items():
            source = self._data.windows(subjects)
            rows = np.flatnonzero(self._windows.table["subject"].isin(subjects).to_numpy())
            items = test if side == "test" else pair_items(source, 4 * len(test.table), self._seed)
            features.append(self._features[rows][items.windows])
            tables.append(items.table)
        stacked = np.concatenate(features)
        table = pd.concat(tables, ignore_index=True)
        predictions, _ = baseline_pairs(table, stacked[:, 0], stacked[:, 1], self._sides, classifier, seed=self._seed)
        return predictions


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

    train = np.concatenate([latents(subject) for subject in data.split.train])
    model = LinearDiscriminantAnalysis().fit(train, np.tile(CLIP_LABELS, len(data.split.train)))
    by_subject = {subject: model.predict_proba(latents(subject)) for subject in data.split.test}
    rows = zip(items.table["subject"], items.table["clip"], strict=True)
    columns = [list(model.classes_).index(label) for label in data.labels]
    probabilities = np.stack([by_subject[subject][clip - 1][columns] for subject, clip in rows])
    return _by_probability(items, probabilities, data.labels, "oracle", seed)


def control_predictions(
    data: EEGData, items: Items, task: str, seed: int
) -> dict[str, tuple[pd.DataFrame, dict[str, float]]]:
    """Session-only and session + position: predictions without EEG, each with its own expected scores."""
    trials = data.store.trials
    train = trials[trials["subject"].isin(data.split.train)]
    if task == "EPC":
        options: tuple[str, ...] = (controls.SAME, controls.DIFFERENT)
        answers = {"session_position": controls.session_position_pairs(train, items.table)}
        expected = {"session_position": controls.expected_session_position_pairs(trials, items.table)}
    else:
        options = data.labels
        answers = {
            "session_only": controls.session_only(train, items.table),
            "session_position": controls.session_position(train, items.table),
        }
        expected = {
            "session_only": controls.expected_session_only(items.table),
            "session_position": controls.expected_session_position(trials),
        }
    return {
        name: (
            prediction_rows(
                items.table, task=task, model=name, condition=name, labels=options, answers=given, seed=seed
            ),
            expected[name],
        )
        for name, given in answers.items()
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
