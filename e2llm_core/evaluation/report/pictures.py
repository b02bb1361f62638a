"""Data for the report's pictures: scalp maps of the classes, and examples with their EEG."""

import numpy as np
import pandas as pd

from e2llm_core.evaluation.report.inputs import Example, Topomaps
from e2llm_core.llm.families.base import Family
from e2llm_core.stages.data import EEGData
from storage.signal.bands import BANDS
from storage.windows import Windows

_READ = 64


def class_topomaps(data: EEGData) -> Topomaps:
    """Mean session-relative log band power by class, over the test subjects' windows, for the model's channels."""
    source = data.measured(data.split.test)
    freqs = np.fft.rfftfreq(source.n_times, 1 / source.sfreq_hz)
    groups = source.table.groupby(["subject", "session", "label"])
    group, keys = groups.ngroup().to_numpy(), groups.size()
    sums = np.zeros((len(keys), len(BANDS), len(source.channels)))
    for ids in np.array_split(np.arange(len(source)), -(-len(source) // _READ)):
        power = np.abs(np.fft.rfft(source.read(ids))) ** 2 / source.n_times
        bands = [power[..., (freqs >= low) & (freqs < high)].mean(axis=-1) for low, high in BANDS.values()]
        np.add.at(sums, group[ids], np.log(np.stack(bands, axis=1) + 1e-6))
    label, counts = keys.index.get_level_values("label"), keys.to_numpy()[:, None, None]
    sums -= counts * _session_means(sums / counts, keys.index)
    shown = [name for name in data.labels if (label == name).any()]
    maps = np.stack([sums[label == name].sum(axis=0) / counts[label == name].sum() for name in shown])
    return Topomaps(maps, tuple(source.channels), tuple(BANDS), tuple(shown), len(source))


def _session_means(means: np.ndarray, keys: pd.MultiIndex) -> np.ndarray:
    """Mean of each session (groups, ...), in which every label has the same weight; repeated for each of its labels."""
    session = keys.droplevel("label").factorize()[0]
    return np.stack([means[session == number].mean(axis=0) for number in session])


def three_examples(data: EEGData, predictions: pd.DataFrame, family: Family) -> list[Example]:
    """Up to two right answers of different classes and a wrong one, with their signals in microvolts."""
    right = predictions[predictions["answer"] == predictions["truth"]]
    wrong = predictions[predictions["answer"] != predictions["truth"]]
    return examples_of(data, pd.concat([right.drop_duplicates("truth").head(2), wrong.head(1)]).head(3), family)


def examples_of(data: EEGData, predictions: pd.DataFrame, family: Family) -> list[Example]:
    """Generated answers about one window each, with its signal in microvolts."""
    plain = data.cut.model_copy(update={"normalisation": "none", "adaptation": "none"})
    source = Windows(data.store, plain, data.split.test.rows(data.store.trials))
    places = {
        key: number for number, key in enumerate(zip(source.table["recording_id"], source.table["start"], strict=True))
    }
    examples = []
    for row in predictions.itertuples():
        (segment,) = row.segments
        window = places[(segment["recording_id"], segment["start"])]
        title = f"subject {row.subject}, session {row.session}, trial {segment['trial']}"
        rationale, reply = family.split(row.text)
        examples.append(
            Example(
                eeg_uv=source.read([window])[0],
                channels=tuple(source.channels),
                sfreq_hz=source.sfreq_hz,
                truth=row.truth,
                answer=row.answer,
                rationale=rationale,
                reply=reply,
                title=title,
            )
        )
    return examples
