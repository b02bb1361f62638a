"""The ceiling on a synthetic twin: answers from what its generator knows and no recording reveals."""

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from e2llm_core.evaluation.references.inputs import ReferenceInputs
from storage.datasets.seed_vii import CLIP_LABELS
from storage.twin import TwinConfig, subject_latents


def oracle_probabilities(inputs: ReferenceInputs) -> NDArray[np.floating]:
    """Label probabilities (windows, labels) of the test windows.

    By linear discriminant analysis on each clip's true latent gains and burst depth.
    """
    assert inputs.twin is not None
    data, labels, config = inputs.data, inputs.data.labels, inputs.twin
    fitted = data.split.train.rows(data.store.trials)
    places = {subject: np.sort(rows.unique()) - 1 for subject, rows in fitted.groupby("subject")["clip"]}
    train = np.concatenate([_latents(config, subject)[clips] for subject, clips in places.items()])
    truth = np.concatenate([np.array(CLIP_LABELS)[clips] for clips in places.values()])
    model = LinearDiscriminantAnalysis().fit(train, truth)
    by_subject = {subject: model.predict_proba(_latents(config, subject)) for subject in data.split.test.subjects}
    table = data.windows(data.split.test).table
    rows = zip(table["subject"], table["clip"], strict=True)
    probabilities = np.zeros((len(table), len(labels)))
    columns = [labels.index(label) for label in model.classes_]
    probabilities[:, columns] = np.stack([by_subject[subject][clip - 1] for subject, clip in rows])
    return probabilities


def _latents(config: TwinConfig, subject: str) -> np.ndarray:
    """True latents (clips, gains and burst depth) of a subject's clips."""
    known = subject_latents(config, int(subject))
    return np.column_stack([known.log_gain.reshape(len(CLIP_LABELS), -1), known.burst_depth])
