"""A synthetic twin of SEED-VII: the data set's real on-disk layout, filled with a known generative model.

The twin checks software; it is no evidence about people. Each clip is a mixture of band-limited sources in
seven scalp regions over a 1/f background, with residual line noise and blinks::

    log gain(region, band) = subject + session + drift * position
                           + intensity * (effect * signature[label] + subject's own deviation) + trial noise

Two pairs of emotions (fear/anger, happy/surprise) share one power signature and differ only in time: in anger
and surprise the beta and gamma sources come in bursts, about one a second, at unchanged mean power. Features
averaged over a window, such as differential entropy, cannot see that.

Three variants check a result. *Fresh* subjects come from another seed and were never seen during design. The
*permuted* twin gives each emotion the signature of another one. The *null* twin has no emotions at all.
"""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from storage.datasets.seed_vii import (
    CLIP_LABELS,
    CONTINUOUS_LABEL_SECONDS,
    NUM_SESSIONS,
    SFREQ_HZ,
    TRIALS_PER_SESSION,
    WORDS,
    clip_of,
)
from storage.errors import InputError
from storage.labels import SEED_VII
from storage.places.files import write_json
from storage.signal import SEED_CHANNELS
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS, region_of

SIGNATURES: dict[str, dict[tuple[str, str], float]] = {
    "neutral": {("occipital", "alpha"): 1.0, ("left frontal", "beta"): -0.7, ("right frontal", "beta"): -0.7},
    "sad": {("right frontal", "alpha"): 1.0, ("left frontal", "theta"): 0.7, ("central", "beta"): -0.8},
    "disgust": {("left temporal", "beta"): 1.0, ("parietal", "theta"): 0.8, ("occipital", "alpha"): -0.8},
    "fear": {("right temporal", "gamma"): 1.0, ("central", "beta"): 0.8, ("parietal", "alpha"): -0.9},
    "happy": {("left frontal", "gamma"): 1.0, ("left temporal", "alpha"): -0.9, ("occipital", "beta"): 0.8},
}
SIGNATURES["anger"] = SIGNATURES["fear"]
SIGNATURES["surprise"] = SIGNATURES["happy"]
"""Change of log source gain per label, in units of `TwinConfig.effect`."""

BURST_LABELS = frozenset({"anger", "surprise"})
BURST_BANDS = ("beta", "gamma")
SOURCE_UV = {"delta": 6.0, "theta": 5.0, "alpha": 6.0, "beta": 4.0, "gamma": 2.5}
BACKGROUND_UV = 9.0
LINE_UV = 0.8
BLINK_UV = 110.0
_MAT_HEADER = b"MATLAB 5.0 MAT-file, synthetic twin of SEED-VII".ljust(116)
_STAND_IN_POSITIONS = {"CB1": "PO9", "CB2": "PO10"}


def _is_absent(value: object) -> bool:
    """Whether a variant is not requested; the identity card and digest of the plain twin then omit its key."""
    return value is None


class FreshSubjects(BaseModel):
    """Additional subjects from a twin with another seed, numbered after the twin's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    num_subjects: int = Field(20, ge=1, le=20)


class TwinConfig(BaseModel):
    """Size, variant and difficulty of the twin; `effect` alone sets the difficulty, and 0 is the null twin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: float = Field(0.7, ge=0.0, le=5.0)
    num_subjects: int = Field(20, ge=1, le=20)
    clip_seconds: int = Field(8, ge=4, le=300)
    seed: int = Field(7, ge=0)
    permutation: int | None = Field(
        None, ge=0, exclude_if=_is_absent, description="seed of a permuted assignment of signatures to emotions"
    )
    fresh: FreshSubjects | None = Field(None, exclude_if=_is_absent)

    @model_validator(mode="after")
    def _fresh_is_another(self) -> "TwinConfig":
        if self.fresh is not None and self.fresh.seed == self.seed:
            raise ValueError(f"fresh.seed is the twin's own seed {self.seed}, so the fresh subjects would not be new")
        return self

    @property
    def subjects(self) -> range:
        """Numbers of all subjects, the fresh ones last."""
        return range(1, self.num_subjects + (self.fresh.num_subjects if self.fresh else 0) + 1)

    @property
    def fresh_twin(self) -> "TwinConfig | None":
        """The twin whose subjects 1, 2, ... are the fresh subjects; None without fresh subjects."""
        if self.fresh is None:
            return None
        return self.model_copy(update={"fresh": None, "seed": self.fresh.seed, "num_subjects": self.fresh.num_subjects})

    def origin_of(self, subject: int) -> tuple[int, int]:
        """Seed and subject number from which the generator draws a subject.

        Raises
        ------
        ValueError
            When the twin has no such subject.
        """
        if subject not in self.subjects:
            raise ValueError(f"there is no subject {subject}: the twin has subjects 1 to {self.subjects[-1]}")
        if self.fresh is None or subject <= self.num_subjects:
            return self.seed, subject
        return self.fresh.seed, subject - self.num_subjects

    @property
    def assignment(self) -> dict[str, str]:
        """Emotion -> the emotion in `SIGNATURES` and `BURST_LABELS` whose signature it gets.

        In the permuted twin, no emotion keeps its power signature, whether directly or through the emotion that
        shares it.
        """
        names = SEED_VII.names
        if self.permutation is None:
            return dict(zip(names, names, strict=True))
        rng = np.random.default_rng(self.permutation)
        while True:
            given = [names[place] for place in rng.permutation(len(names))]
            if all(SIGNATURES[name] != SIGNATURES[other] for name, other in zip(names, given, strict=True)):
                return dict(zip(names, given, strict=True))


class Latents(BaseModel):
    """Latent variables of one subject's clips: known to the generator, never contained in a recording."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    log_gain: np.ndarray
    """(clips, regions, bands): contribution of the emotion to the log source gain, including trial noise."""
    offset: np.ndarray
    """(clips, regions, bands): contribution of subject, session and drift to the log source gain."""
    burst_depth: np.ndarray
    """(clips,): depth of the burst envelope, 0..1."""
    burst_hz: np.ndarray
    """(clips,): bursts per second."""
    intensity: np.ndarray
    """(clips, windows of 4 s): continuous label, 0..1."""


@lru_cache
def _geometry() -> tuple[np.ndarray, np.ndarray]:
    """Topography of the regions, (channels, regions), and spatial mixing of the background, (channels, channels)."""
    import mne

    positions = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    upper = {name.upper(): xyz for name, xyz in positions.items()}
    xyz = np.array([upper[_STAND_IN_POSITIONS.get(name, name)] for name in SEED_CHANNELS])
    xyz = xyz - xyz.mean(axis=0)
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    regions = np.array([region_of(name) for name in SEED_CHANNELS])
    centres = np.array([xyz[regions == region].mean(axis=0) for region in REGIONS])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    topography = np.exp(-((np.arccos(np.clip(xyz @ centres.T, -1, 1)) / 0.55) ** 2))
    smooth = np.exp(-((np.arccos(np.clip(xyz @ xyz.T, -1, 1)) / 0.5) ** 2))
    return topography, smooth / np.linalg.norm(smooth, axis=1, keepdims=True)


def signature_matrix(label: str) -> np.ndarray:
    """(regions, bands) change of log gain for `label`, in units of the effect."""
    matrix = np.zeros((len(REGIONS), len(BANDS)))
    for (region, band), weight in SIGNATURES[label].items():
        matrix[REGIONS.index(region), list(BANDS).index(band)] = weight
    return matrix


def subject_latents(config: TwinConfig, subject: int) -> Latents:
    """Draw the latent variables of one subject's 80 clips, which depend only on the subject's seed and number.

    Raises
    ------
    ValueError
        When the twin has no such subject.
    """
    rng, assignment = np.random.default_rng([*config.origin_of(subject), 0]), config.assignment
    shape = (len(REGIONS), len(BANDS))
    num_clips = NUM_SESSIONS * TRIALS_PER_SESSION
    num_values = int(config.clip_seconds // CONTINUOUS_LABEL_SECONDS)
    own = rng.normal(0, 0.35, (len(SEED_VII), *shape)) * config.effect
    subject_gain = rng.normal(0, 0.5, shape)
    session_gain = rng.normal(0, 0.3, (NUM_SESSIONS, *shape))
    drift = rng.normal(0, 0.2, (NUM_SESSIONS, *shape))
    log_gain, offset = np.zeros((num_clips, *shape)), np.zeros((num_clips, *shape))
    burst_depth, burst_hz = np.zeros(num_clips), rng.uniform(0.8, 1.25, num_clips)
    intensity = np.zeros((num_clips, num_values))
    for session in range(1, NUM_SESSIONS + 1):
        for position in range(1, TRIALS_PER_SESSION + 1):
            index = clip_of(session, position) - 1
            label = CLIP_LABELS[index]
            level = rng.beta(2, 5) if label == "neutral" else rng.beta(5, 2)
            intensity[index] = np.clip(level + rng.normal(0, 0.05, num_values), 0, 1)
            strength = 1.0 if label == "neutral" else 0.5 + 0.5 * level
            signature = config.effect * signature_matrix(assignment[label]) + own[SEED_VII.id_of(label)]
            log_gain[index] = strength * signature + rng.normal(0, 0.3, shape)
            along = (position - 1) / (TRIALS_PER_SESSION - 1) - 0.5
            offset[index] = subject_gain + session_gain[session - 1] + drift[session - 1] * along
            wanted = min(1.0, config.effect) if assignment[label] in BURST_LABELS else 0.0
            burst_depth[index] = np.clip(wanted * 1.4 * strength + rng.normal(0, 0.1), 0, 1)
    return Latents(log_gain=log_gain, offset=offset, burst_depth=burst_depth, burst_hz=burst_hz, intensity=intensity)


def _band_noise(rng: np.random.Generator, shape: tuple[int, ...], band: tuple[float, float]) -> np.ndarray:
    """Gaussian noise of unit variance inside `band`; time is the last axis."""
    freqs = np.fft.rfftfreq(shape[-1], 1 / SFREQ_HZ)
    inside = (freqs >= band[0]) & (freqs < band[1])
    spectrum = np.zeros((*shape[:-1], len(freqs)), dtype=complex)
    draws = rng.normal(size=(2, *shape[:-1], int(inside.sum())))
    spectrum[..., inside] = draws[0] + 1j * draws[1]
    noise: np.ndarray = np.fft.irfft(spectrum, shape[-1]) * (shape[-1] / (2 * np.sqrt(inside.sum())))
    return noise


def _background(rng: np.random.Generator, n_chans: int, n_times: int) -> np.ndarray:
    """1/f noise of unit variance, (n_chans, n_times), from 0.3 Hz upwards."""
    freqs = np.fft.rfftfreq(n_times, 1 / SFREQ_HZ)
    amplitude = np.where(freqs >= 0.3, np.maximum(freqs, 0.3) ** -0.6, 0.0)
    draws = rng.normal(size=(2, n_chans, len(freqs)))
    noise = np.fft.irfft((draws[0] + 1j * draws[1]) * amplitude, n_times)
    scaled: np.ndarray = noise * n_times / (2 * np.sqrt((amplitude**2).sum()))
    return scaled


def _blinks(rng: np.random.Generator, n_times: int) -> np.ndarray:
    """Frontal blink waveform: raised cosines of 0.3 s at about 12 a minute, in µV at Fpz."""
    trace = np.zeros(n_times)
    width = int(0.3 * SFREQ_HZ)
    shape = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, width))
    for onset in rng.integers(0, n_times - width, rng.poisson(n_times / SFREQ_HZ / 5)):
        trace[onset : onset + width] += shape * BLINK_UV * rng.uniform(0.6, 1.3)
    return trace


class SubjectSynthesiser:
    """Generates one subject's signals from its latents, each clip from its own seed."""

    def __init__(self, config: TwinConfig, subject: int) -> None:
        self.config, self._origin = config, config.origin_of(subject)
        self.latents = subject_latents(config, subject)
        rng = np.random.default_rng([*self._origin, 1])
        topography, self._smooth = _geometry()
        n_chans = len(SEED_CHANNELS)
        mixing = np.eye(n_chans) + rng.normal(0, 0.04, (n_chans, n_chans))
        gains = np.exp(rng.normal(0, 0.2, n_chans))
        self._mixing = gains[:, None] * (mixing @ topography)
        self._line = LINE_UV * np.exp(rng.normal(0, 0.5, n_chans))
        self._slow_uv = rng.normal(0, 6.0, (NUM_SESSIONS, n_chans))
        depth = np.array([{"FP": 1.0, "AF": 0.6, "F": 0.25}.get(c.rstrip("0123456789Z"), 0.0) for c in SEED_CHANNELS])
        self._blink_map = depth * gains

    def clip(self, clip: int) -> np.ndarray:
        """Generate clip 1..80: (62, n_times) float64 in µV at 200 Hz."""
        rng = np.random.default_rng([*self._origin, 2, clip])
        n_times = int(self.config.clip_seconds * SFREQ_HZ)
        seconds = np.arange(n_times) / SFREQ_HZ
        index, session = clip - 1, (clip - 1) // TRIALS_PER_SESSION
        gain = np.exp(self.latents.log_gain[index] + self.latents.offset[index])
        phase = rng.uniform(0, 2 * np.pi)
        swing = np.cos(2 * np.pi * self.latents.burst_hz[index] * seconds + phase)
        envelope = np.sqrt(np.maximum(1 + self.latents.burst_depth[index] * swing, 0.0))
        signal = BACKGROUND_UV * (self._smooth @ _background(rng, len(SEED_CHANNELS), n_times))
        for column, (band, edges) in enumerate(BANDS.items()):
            sources = SOURCE_UV[band] * gain[:, column, None] * _band_noise(rng, (len(REGIONS), n_times), edges)
            signal += self._mixing @ (sources * envelope if band in BURST_BANDS else sources)
        signal += self._line[:, None] * np.sin(2 * np.pi * 50.0 * seconds + rng.uniform(0, 2 * np.pi))
        signal += self._blink_map[:, None] * _blinks(rng, n_times)
        along = ((clip - 1) % TRIALS_PER_SESSION + seconds / self.config.clip_seconds) / TRIALS_PER_SESSION
        total: np.ndarray = signal + self._slow_uv[session][:, None] * along
        return total


def twin_digest(config: TwinConfig) -> str:
    """SHA-256 of the generator's constants and of all latents, rounded to 1e-6: the twin's frozen identity."""
    constants = {
        "config": config.model_dump(),
        "signatures": {label: signature_matrix(label).tolist() for label in SEED_VII.names},
        "amplitudes_uv": [SOURCE_UV, BACKGROUND_UV, LINE_UV, BLINK_UV],
    }
    digest = hashlib.sha256(json.dumps(constants, sort_keys=True).encode())
    for subject in config.subjects:
        latents = subject_latents(config, subject)
        for part in (latents.log_gain, latents.offset, latents.burst_depth, latents.intensity):
            digest.update(np.rint(part * 1e6).astype("<i8").tobytes())
    return digest.hexdigest()


def identity_card(config: TwinConfig) -> dict[str, Any]:
    """Contents of `twin.json`: the configuration, its digest, and the digest of the fresh subjects' own twin."""
    card: dict[str, Any] = {"config": config.model_dump(), "digest": twin_digest(config)}
    if config.fresh_twin is not None:
        card["fresh_digest"] = twin_digest(config.fresh_twin)
    return card


def write_subject(root: Path, config: TwinConfig, subject: int) -> None:
    """Write one subject's MAT v5 files; existing files are complete and are kept.

    Raises
    ------
    InputError
        When `root` holds a twin of another configuration.
    """
    _claim(root, config)
    signals = root / "EEG_preprocessed" / f"{subject}.mat"
    labels = root / "continuous_labels" / f"{subject}.mat"
    if signals.exists() and labels.exists():
        return
    synthesiser = SubjectSynthesiser(config, subject)
    clips = range(1, NUM_SESSIONS * TRIALS_PER_SESSION + 1)
    _save_mat(labels, {str(clip): synthesiser.latents.intensity[clip - 1][None] for clip in clips})
    _save_mat(signals, {str(clip): synthesiser.clip(clip) for clip in clips})


def _save_mat(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        savemat(file, arrays)
        file.seek(0)  # SciPy's header holds the time; equal twins must be equal files
        file.write(_MAT_HEADER)
    partial.replace(path)


def write_tables(root: Path, config: TwinConfig) -> None:
    """Write the label workbook, the channel workbook and the twin's identity card.

    Raises
    ------
    InputError
        When `root` holds a twin of another configuration.
    """
    import openpyxl

    _claim(root, config)
    words = {label: word for word, label in WORDS.items()}
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for session in range(1, NUM_SESSIONS + 1):
        clips = [clip_of(session, position) for position in range(1, TRIALS_PER_SESSION + 1)]
        sheet.append([f"Session {session}", *clips])
        sheet.append([None, *(words[CLIP_LABELS[clip - 1]] for clip in clips)])
    book.save(root / "emotion_label_and_stimuli_order.xlsx")
    book = openpyxl.Workbook()
    for name in SEED_CHANNELS:
        book.worksheets[0].append([name])
    book.save(root / "Channel Order.xlsx")


def _claim(root: Path, config: TwinConfig) -> None:
    """Write the twin's identity card into its folder, or compare it with the existing one."""
    path = root / "twin.json"
    if path.exists():
        try:
            found = TwinConfig.model_validate(json.loads(path.read_text())["config"])
        except (json.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
            raise InputError(str(path), "is not a twin's identity card", "Choose another folder.") from error
        if found != config:
            raise InputError(str(root), f"holds another twin ({found})", "Choose another folder, or delete this one.")
        return
    root.mkdir(parents=True, exist_ok=True)
    write_json(path, identity_card(config))
