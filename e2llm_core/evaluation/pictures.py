"""What the report shows besides numbers: scalp maps of the classes, and examples with their EEG."""

import numpy as np
import pandas as pd

from e2llm_core.evaluation.report_inputs import Example, Topomaps
from e2llm_core.stages.data import EEGData
from storage.signal.bands import BANDS
from storage.windows import WindowConfig, Windows

_READ = 64


def class_topomaps(data: EEGData) -> Topomaps:
    """Mean session-relative log band power by class over the test subjects' windows, all channels of the store."""
    config = WindowConfig(
        window_seconds=data.config.windows.window_seconds,
        stride_seconds=data.config.windows.stride_seconds,
        normalisation="session-whitening",
        adaptation="transductive-unlabelled",
    )
    source = Windows(data.store, config, data.split.test.rows(data.store.trials))
    freqs = np.fft.rfftfreq(source.n_times, 1 / source.sfreq_hz)
    powers = []
    for ids in np.array_split(np.arange(len(source)), -(-len(source) // _READ)):
        power = np.abs(np.fft.rfft(source.read(ids))) ** 2 / source.n_times
        bands = [power[..., (freqs >= low) & (freqs < high)].mean(axis=-1) for low, high in BANDS.values()]
        powers.append(np.log(np.stack(bands, axis=1) + 1e-6))
    stacked = np.concatenate(powers)
    table = source.table
    stacked -= _session_means(stacked, table)
    label = table["label"].to_numpy()
    shown = [name for name in data.labels if (label == name).any()]
    maps = np.stack([stacked[label == name].mean(axis=0) for name in shown])
    return Topomaps(maps, tuple(source.channels), tuple(BANDS), tuple(shown), len(source))


def _session_means(values: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Mean of each session, with every label weighing the same within it."""
    means = np.zeros_like(values)
    for _, rows in table.groupby(["subject", "session"]):
        by_label = [values[part.index].mean(axis=0) for _, part in rows.groupby("label")]
        means[rows.index] = np.mean(by_label, axis=0)
    return means


def three_examples(data: EEGData, predictions: pd.DataFrame) -> list[Example]:
    """A right answer, a wrong one, and one more of another class, as generated; signals in microvolts."""
    plain = data.config.windows.model_copy(update={"normalisation": "none", "adaptation": "none"})
    source = Windows(data.store, plain, data.split.test.rows(data.store.trials))
    right = predictions[predictions["answer"] == predictions["truth"]]
    wrong = predictions[predictions["answer"] != predictions["truth"]]
    chosen = pd.concat([right.drop_duplicates("truth").head(2), wrong.head(1)]).head(3)
    places = {
        key: number for number, key in enumerate(zip(source.table["recording_id"], source.table["start"], strict=True))
    }
    examples = []
    for row in chosen.itertuples():
        window = places[(row.recording_id, row.start)]
        title = f"subject {row.subject}, session {row.session}, trial {row.trial}"
        examples.append(
            Example(
                eeg_uv=source.read([window])[0],
                channels=tuple(source.channels),
                sfreq_hz=source.sfreq_hz,
                truth=row.truth,
                answer=row.answer,
                text=row.text,
                title=title,
            )
        )
    return examples
