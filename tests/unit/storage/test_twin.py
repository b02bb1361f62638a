"""The twin is frozen: what its difficulty rests on, and that it is written as the real data are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.io import loadmat
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score

from storage.datasets.seed_vii import CLIP_LABELS, WORDS
from storage.errors import InputError
from storage.labels import SEED_VII
from storage.signal import SEED_CHANNELS
from storage.signal.bands import BANDS
from storage.twin import (
    BURST_LABELS,
    SIGNATURES,
    FreshSubjects,
    Latents,
    SubjectSynthesiser,
    TwinConfig,
    identity_card,
    signature_matrix,
    subject_latents,
    twin_digest,
    write_subject,
    write_tables,
)

FROZEN = json.loads((Path(__file__).parent / "twin_digest.json").read_text())


def test_the_twin_is_frozen() -> None:
    """Its difficulty was set before models were tuned: change neither the numbers nor this test."""
    assert TwinConfig().effect == 0.7
    assert TwinConfig().model_dump() == FROZEN["config"]
    assert twin_digest(TwinConfig()) == FROZEN["digest"]


@pytest.mark.parametrize("case", FROZEN["signals"], ids=lambda case: f"{case['subject']}-{case['clip']}")
def test_its_signals_are_frozen(case: dict) -> None:
    """The digest covers the latents; these fingerprints cover what is made of them, montage included."""
    signal = SubjectSynthesiser(TwinConfig(), case["subject"]).clip(case["clip"])
    assert np.allclose(signal.std(axis=1), case["sd_uv"], rtol=1e-6)
    assert np.allclose(signal[:, 777], case["sample_777_uv"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"effect": 0.71},
        {"seed": 8},
        {"num_subjects": 19},
        {"clip_seconds": 12},
        {"permutation": 0},
        {"fresh": {"seed": 19, "num_subjects": 1}},
    ],
)
def test_the_digest_tells_twins_apart(change: dict) -> None:
    assert twin_digest(TwinConfig(**change)) != FROZEN["digest"]


def test_subjects_and_clips_do_not_depend_on_each_other() -> None:
    config = TwinConfig(clip_seconds=4)
    first, second = SubjectSynthesiser(config, 5), SubjectSynthesiser(config, 5)
    second.clip(1)
    assert np.array_equal(first.clip(30), second.clip(30))
    assert not np.array_equal(first.clip(30), first.clip(31))
    assert not np.array_equal(first.clip(30), SubjectSynthesiser(config, 6).clip(30))
    few = subject_latents(TwinConfig(num_subjects=6), 5)
    assert np.array_equal(few.log_gain, subject_latents(TwinConfig(), 5).log_gain)


def across_subjects(**variant: Any) -> float:
    """Balanced accuracy of a linear classifier of the latents themselves, 12 subjects fitted, 8 held out."""
    config = TwinConfig(**variant)
    latents = [subject_latents(config, subject) for subject in (*range(1, 13), *config.subjects[-8:])]
    features = [
        np.column_stack([each.log_gain.reshape(80, -1), each.offset.reshape(80, -1), each.burst_depth])
        for each in latents
    ]
    labels = [SEED_VII.id_of(label) for label in CLIP_LABELS]
    model = LinearDiscriminantAnalysis().fit(np.concatenate(features[:12]), labels * 12)
    return float(balanced_accuracy_score(labels * 8, model.predict(np.concatenate(features[12:]))))


def test_the_null_twin_knows_no_emotion() -> None:
    assert abs(across_subjects(effect=0.0) - 1 / 7) < 0.05
    assert across_subjects(effect=0.7) > 0.7


def test_fresh_and_permuted_twins_are_as_difficult() -> None:
    plain, fresh, permuted = across_subjects(), across_subjects(fresh={"seed": 19}), across_subjects(permutation=1)
    assert fresh == pytest.approx(plain, abs=0.06)
    assert permuted == pytest.approx(plain, abs=0.06)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_subjects=st.integers(1, 20),
    fresh=st.builds(FreshSubjects, seed=st.integers(10**6 + 1, 10**9), num_subjects=st.integers(1, 20)),
)
def test_fresh_subjects_are_those_of_the_other_seed(seed: int, num_subjects: int, fresh: FreshSubjects) -> None:
    config = TwinConfig(seed=seed, num_subjects=num_subjects, fresh=fresh)
    assert len(config.subjects) == num_subjects + fresh.num_subjects
    plain, other = TwinConfig(seed=seed, num_subjects=num_subjects), config.fresh_twin
    assert other == TwinConfig(seed=fresh.seed, num_subjects=fresh.num_subjects)
    for twin, subject, number in (
        (plain, num_subjects, num_subjects),
        (other, num_subjects + 1, 1),
        (other, config.subjects[-1], fresh.num_subjects),
    ):
        assert_same_latents(subject_latents(config, subject), subject_latents(twin, number))


def assert_same_latents(latents: Latents, others: Latents) -> None:
    for name, value in others:
        assert np.array_equal(getattr(latents, name), value), name


def test_signals_of_the_first_subjects_do_not_know_the_fresh_ones() -> None:
    joined = TwinConfig(clip_seconds=4, fresh=FreshSubjects(seed=19))
    plain, other = TwinConfig(clip_seconds=4), TwinConfig(clip_seconds=4, seed=19)
    for subject, twin, number in ((1, plain, 1), (20, plain, 20), (21, other, 1), (40, other, 20)):
        expected = SubjectSynthesiser(twin, number).clip(7)
        assert np.array_equal(SubjectSynthesiser(joined, subject).clip(7), expected)


def test_the_card_names_the_fresh_twin() -> None:
    config = TwinConfig(fresh=FreshSubjects(seed=19))
    card = identity_card(config)
    assert card["fresh_digest"] == twin_digest(TwinConfig(seed=19))
    assert TwinConfig.model_validate(card["config"]) == config
    assert identity_card(TwinConfig()) == {"config": FROZEN["config"], "digest": FROZEN["digest"]}


def test_subjects_that_the_twin_has_not() -> None:
    with pytest.raises(ValueError, match="there is no subject 26: the twin has subjects 1 to 25"):
        subject_latents(TwinConfig(fresh=FreshSubjects(seed=1, num_subjects=5)), 26)
    with pytest.raises(ValidationError, match="is the twin's own seed 7"):
        TwinConfig(fresh=FreshSubjects(seed=7))


@given(seed=st.integers(0, 10**9))
def test_a_permuted_twin_leaves_no_emotion_its_signature(seed: int) -> None:
    assignment = TwinConfig(permutation=seed).assignment
    assert sorted(assignment) == sorted(assignment.values()) == sorted(SEED_VII.names)
    assert all(SIGNATURES[label] != SIGNATURES[other] for label, other in assignment.items())


def test_a_permuted_twin_changes_nothing_but_the_assignment() -> None:
    config, permuted = TwinConfig(), TwinConfig(permutation=1)
    before, after = subject_latents(config, 4), subject_latents(permuted, 4)
    for name in ("offset", "burst_hz", "intensity"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    for clip, label in enumerate(CLIP_LABELS):
        change = signature_matrix(permuted.assignment[label]) - signature_matrix(label)
        strength = (after.log_gain - before.log_gain)[clip][change != 0] / (0.7 * change[change != 0])
        assert np.ptp(strength) < 1e-9
        assert 0.5 <= strength[0] <= 1
    moved = np.array([permuted.assignment[label] in BURST_LABELS for label in CLIP_LABELS])
    assert after.burst_depth[moved].mean() > 0.5
    assert after.burst_depth[~moved].mean() < 0.1


def test_two_pairs_differ_in_time_alone() -> None:
    assert SIGNATURES["anger"] == SIGNATURES["fear"]
    assert SIGNATURES["surprise"] == SIGNATURES["happy"]
    latents = subject_latents(TwinConfig(), 3)
    bursts = np.array([label in BURST_LABELS for label in CLIP_LABELS])
    assert latents.burst_depth[bursts].mean() > 0.5
    assert latents.burst_depth[~bursts].mean() < 0.1


def test_bursts_leave_the_mean_power_alone() -> None:
    """Differential entropy, the log of the mean power of a window, does not see them; the envelope shows them."""
    steady, bursting = (SubjectSynthesiser(TwinConfig(clip_seconds=16), 2) for _ in range(2))
    steady.latents.burst_depth[:] = 0.0
    bursting.latents.burst_depth[:] = 1.0
    differences, rhythms = [], []
    for clip in range(1, 13):
        traces = [fast_bands(synthesiser.clip(clip)) for synthesiser in (steady, bursting)]
        entropies = [0.5 * np.log(trace.var(axis=1)) for trace in traces]
        differences.append(entropies[1] - entropies[0])
        seconds = np.arange(traces[0].shape[1]) / 200
        carrier = np.exp(-2j * np.pi * steady.latents.burst_hz[clip - 1] * seconds)
        rhythms.append([np.median(np.abs((trace**2) @ carrier) / (trace**2).sum(axis=1)) for trace in traces])
    assert np.abs(np.mean(differences, axis=0)).max() < 0.05
    without, with_bursts = np.mean(rhythms, axis=0)
    assert with_bursts > 3 * without


def fast_bands(signal: np.ndarray) -> np.ndarray:
    """Beta and gamma, the bands of the bursts, without the mains."""
    spectrum, freqs = np.fft.rfft(signal), np.fft.rfftfreq(signal.shape[1], 1 / 200)
    inside = (freqs >= BANDS["beta"][0]) & (freqs < BANDS["gamma"][1] - 1)
    return np.fft.irfft(np.where(inside, spectrum, 0), signal.shape[1])


def test_amplitudes_are_those_of_eeg() -> None:
    signal = SubjectSynthesiser(TwinConfig(), 1).clip(9)
    assert 5 < np.median(signal.std(axis=1)) < 60
    assert np.isfinite(signal).all()


def test_layout_of_the_signals(twin_root: Path) -> None:
    for subject in ("1", "2"):
        file = twin_root / "EEG_preprocessed" / f"{subject}.mat"
        assert file.read_bytes()[:6] == b"MATLAB"
        clips = {key: value for key, value in loadmat(file).items() if not key.startswith("__")}
        assert set(clips) == {str(clip) for clip in range(1, 81)}
        for signal in clips.values():
            assert (signal.shape[0], signal.shape[1] % 200, signal.dtype) == (62, 0, np.float64)
    assert sorted(path.name for path in (twin_root / "EEG_preprocessed").iterdir()) == ["1.mat", "2.mat"]


def test_layout_of_the_labels(twin_root: Path) -> None:
    levels = loadmat(twin_root / "continuous_labels" / "1.mat")
    for clip in range(1, 81):
        value = levels[str(clip)]
        assert value.shape == (1, 1)
        assert 0 <= value.min() <= value.max() <= 1
    sheet = openpyxl.load_workbook(twin_root / "emotion_label_and_stimuli_order.xlsx").worksheets[0]
    rows = list(sheet.iter_rows(values_only=True))
    assert [row[0] for row in rows] == ["Session 1", None, "Session 2", None, "Session 3", None, "Session 4", None]
    assert [clip for row in rows[0::2] for clip in row[1:]] == list(range(1, 81))
    assert tuple(WORDS[word] for row in rows[1::2] for word in row[1:]) == CLIP_LABELS
    names = openpyxl.load_workbook(twin_root / "Channel Order.xlsx").worksheets[0].iter_rows(values_only=True)
    assert tuple(row[0] for row in names) == SEED_CHANNELS


def test_equal_twins_are_equal_files_and_are_kept(twin_root: Path, tmp_path: Path) -> None:
    config = TwinConfig(num_subjects=2, clip_seconds=4)
    write_subject(tmp_path, config, 1)
    for name in ("EEG_preprocessed/1.mat", "continuous_labels/1.mat", "twin.json"):
        assert (tmp_path / name).read_bytes() == (twin_root / name).read_bytes()
    before = (tmp_path / "EEG_preprocessed" / "1.mat").stat().st_mtime_ns
    write_subject(tmp_path, config, 1)
    assert (tmp_path / "EEG_preprocessed" / "1.mat").stat().st_mtime_ns == before


def test_another_twin_in_the_folder_is_not_mixed_in(twin_root: Path) -> None:
    null = TwinConfig(num_subjects=2, clip_seconds=4, effect=0.0)
    for write in (lambda: write_tables(twin_root, null), lambda: write_subject(twin_root, null, 1)):
        with pytest.raises(InputError, match="holds another twin"):
            write()


def test_a_foreign_identity_card_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twin.json").write_text("[]")
    with pytest.raises(InputError, match=r"twin\.json: is not a twin's identity card"):
        write_tables(tmp_path, TwinConfig())
