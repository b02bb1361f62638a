"""What a store holds, and what is wrong with it: the numbers that `e2llm info` shows."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from pydantic import ValidationError

from storage.errors import InputError
from storage.quality.measures import Quality
from storage.recording import RecordingInfo
from storage.store import Store

AMPLITUDE_FACTOR = 3.0
"""A recording whose typical channel varies this much more or less than the store's typical recording is flagged."""
_READERS = 16
_MOST_NAMES = 6


@dataclass(frozen=True)
class Finding:
    """Problems of one recording; the worst recording has the highest `severity`."""

    recording_id: str
    subject: str
    session: str
    problems: tuple[str, ...]
    severity: float


@dataclass(frozen=True)
class Overview:
    """One store in numbers.

    Attributes
    ----------
    place, dataset, label_set, digest
        Where it is and what it is.
    size_bytes
        Size of the whole store.
    recordings
        Descriptions, ordered by id.
    qualities
        Measures by recording id; recordings that were not measured are left out.
    labels
        One row per label: `label`, `trials`, `seconds`; trials without label in a row of their own, if any.
    subjects
        One row per subject: `subject`, `sessions`, `recordings`, `trials`, `hours`.
    """

    place: str
    dataset: str
    label_set: str
    digest: str
    size_bytes: int
    recordings: tuple[RecordingInfo, ...]
    qualities: dict[str, Quality]
    labels: pd.DataFrame
    subjects: pd.DataFrame

    @property
    def hours(self) -> float:
        """Length of all recordings."""
        return sum(info.n_times / info.sfreq_hz for info in self.recordings) / 3600

    @property
    def bytes_per_sample(self) -> float:
        """Bytes on disk per sample of one channel."""
        return self.size_bytes / sum(info.n_times * len(info.channels) for info in self.recordings)

    @property
    def num_sessions(self) -> int:
        """Sessions of all subjects together."""
        return len({(info.subject, info.session) for info in self.recordings})

    @property
    def montages(self) -> Counter[tuple[str, ...]]:
        """How many recordings have which channels."""
        return Counter(info.channels for info in self.recordings)

    @property
    def rates_hz(self) -> Counter[float]:
        """How many recordings have which sampling rate."""
        return Counter(info.sfreq_hz for info in self.recordings)

    @property
    def formats(self) -> Counter[str]:
        """How many recordings are stored in which way."""
        return Counter(f"{info.precision}, {info.layout.codec}" for info in self.recordings)

    @property
    def gaps(self) -> int:
        """Places where the signal is interrupted, over all measured recordings."""
        return sum(quality.gaps for quality in self.qualities.values())

    @cached_property
    def typical_sd_uv(self) -> float:
        """Median over measured recordings of their typical channel's standard deviation."""
        return float(np.median([quality.typical_sd_uv for quality in self.qualities.values()]))

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Measured recordings with problems, the worst first."""
        found = [
            Finding(info.recording_id, info.subject, info.session, tuple(problems), _severity(quality, problems))
            for info in self.recordings
            if (quality := self.qualities.get(info.recording_id)) is not None
            and (problems := problems_of(info, quality, self.typical_sd_uv))
        ]
        return tuple(sorted(found, key=lambda finding: (-finding.severity, finding.recording_id)))

    def worst(self, most: int) -> list[RecordingInfo]:
        """At most so many measured recordings, the worst of them, ordered by id."""
        order = {finding.recording_id: place for place, finding in enumerate(self.findings)}
        measured = [info for info in self.recordings if info.recording_id in self.qualities]
        chosen = sorted(measured, key=lambda info: (order.get(info.recording_id, len(order)), info.recording_id))
        return sorted(chosen[:most], key=lambda info: info.recording_id)


def look_over(store: Store) -> Overview:
    """Gather everything that the page of a store shows.

    Raises
    ------
    InputError
        When the store holds no recording, or a recording's measures cannot be read.
    """
    trials = store.trials
    with ThreadPoolExecutor(_READERS) as pool:
        recordings = tuple(pool.map(store.recordings.__getitem__, store.recordings))
    qualities = {info.recording_id: quality for info in recordings if (quality := _quality(store, info)) is not None}
    return Overview(
        place=str(store.root),
        dataset=store.dataset,
        label_set=f"{store.label_set.name} ({', '.join(store.label_set.names)})",
        digest=store.digest,
        size_bytes=store.root.num_bytes(),
        recordings=recordings,
        qualities=qualities,
        labels=_labels(trials, recordings, store.label_set.names),
        subjects=_subjects(recordings),
    )


def problems_of(info: RecordingInfo, quality: Quality, typical_sd_uv: float) -> list[str]:
    """Describe a recording's problems, one phrase for each kind.

    Parameters
    ----------
    info : RecordingInfo
        Description of the recording.
    quality : Quality
        Quality measures of the recording.
    typical_sd_uv : float
        Typical amplitude over the store.
    """
    kinds = {
        "marked bad": quality.marked_bad,
        "flat": quality.flat,
        "saturated": quality.saturated,
        "unlike the other channels": quality.outliers,
    }
    problems = [f"{kind}: {_named(channels)}" for kind, channels in kinds.items() if channels]
    if quality.noisy:
        problems.append(_line_words(quality))
    own = quality.typical_sd_uv
    if not typical_sd_uv / AMPLITUDE_FACTOR <= own <= typical_sd_uv * AMPLITUDE_FACTOR:
        problems.append(f"amplitude: {own:.3g} µV where {typical_sd_uv:.3g} µV are typical")
    if quality.gaps >= max(1, len(info.trials)):
        problems.append(f"gaps: {quality.gaps}")
    return problems


def _line_words(quality: Quality) -> str:
    lines = {50: (quality.line_50hz, quality.line_50hz_uv), 60: (quality.line_60hz, quality.line_60hz_uv)}
    strongest = {hz: max(size or 0.0 for size in sizes) for hz, (_, sizes) in lines.items()}
    hz = max(strongest, key=lambda line: strongest[line])
    every = "every channel" if len(quality.noisy) == len(quality.channels) else _named(quality.noisy)
    return f"line noise of {hz} Hz, up to {strongest[hz]:.3g} µV: {every}"


def _named(channels: Sequence[str]) -> str:
    more = f" and {len(channels) - _MOST_NAMES} more" if len(channels) > _MOST_NAMES else ""
    return ", ".join(channels[:_MOST_NAMES]) + more


def _severity(quality: Quality, problems: Sequence[str]) -> float:
    """Share of channels that are bad, half as much for noisy or unusual ones; a whole one for its amplitude."""
    lesser = {*quality.noisy, *quality.outliers} - {*quality.bads}
    weight = (len(quality.bads) + len(lesser) / 2) / len(quality.channels)
    return weight + sum(problem.startswith("amplitude") for problem in problems)


def _quality(store: Store, info: RecordingInfo) -> Quality | None:
    if info.quality is None:
        return None
    try:
        return Quality.model_validate(info.quality)
    except ValidationError as error:
        problem = " ".join(str(error.errors()[0]["msg"]).split())
        raise InputError(
            str(store.root), f"measures of recording {info.recording_id} are damaged ({problem})", "Ingest it again."
        ) from error


def _labels(trials: pd.DataFrame, recordings: Sequence[RecordingInfo], names: Sequence[str]) -> pd.DataFrame:
    rates = {info.recording_id: info.sfreq_hz for info in recordings}
    seconds = (trials["stop"] - trials["start"]) / trials["recording_id"].map(rates)
    table = pd.DataFrame({"label": trials["label"].astype(object).where(trials["label"].notna(), "(none)")})
    table = table.assign(trials=1, seconds=seconds).groupby("label").sum()
    order = [*names, *(["(none)"] if "(none)" in table.index else [])]
    counted = table.reindex(order, fill_value=0).rename_axis("label").reset_index()
    return counted.astype({"trials": int, "seconds": float})


def _subjects(recordings: Sequence[RecordingInfo]) -> pd.DataFrame:
    rows = [
        (info.subject, info.session, info.recording_id, len(info.trials), info.n_times / info.sfreq_hz / 3600)
        for info in recordings
    ]
    table = pd.DataFrame(rows, columns=["subject", "session", "recording", "trials", "hours"])
    return table.groupby("subject", as_index=False).agg(
        sessions=("session", "nunique"),
        recordings=("recording", "size"),
        trials=("trials", "sum"),
        hours=("hours", "sum"),
    )
