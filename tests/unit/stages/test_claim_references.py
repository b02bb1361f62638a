"""What a claim compares with follows the rule of adaptation, and is never more than the rule allows to be known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from e2llm_core.claims.claims import statements_in
from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from e2llm_core.claims.table import CLAIM_KINDS
from e2llm_core.stages.config import DataConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.language import ClaimedWindows
from e2llm_core.stages.reliability import correlation, neighbours, split_half
from e2llm_core.tasks.facts import ClaimChoice
from storage.labels import LabelSet
from storage.splits import BySubject, Side
from storage.store import RecordingInfo, Trial, create_store
from storage.windows import WindowConfig, Windows

LABELS = LabelSet(name="two", names=("calm", "tense"))
CHANNELS = ("FP1", "FP2", "F3", "F4", "C3", "C4", "O1", "O2")
SFREQ_HZ, CLIP, TRIALS = 128, 512, 8
RULES = {
    "none": ("none", "population", "the average person's"),
    "causal": ("session-whitening", "so far", "the average so far in this session"),
    "transductive-unlabelled": ("session-whitening", "session", "the session average"),
}

CHOICE = ClaimChoice(reliability=0.5)


def loudness(subject: int, session: int, trial: int) -> float:
    """Of everything: subjects and sessions differ, and trials do within them."""
    return float(np.exp(0.8 * subject + 0.4 * session + 0.5 * np.sin(1.7 * trial + subject)))


def write(store, subject: int, session: int, shown: Sequence[int] = range(TRIALS)) -> None:
    """White noise; the order in which the trials' signals are shown may differ."""
    rng = np.random.default_rng([subject, session])
    trials = tuple(
        Trial(trial=n, position=n, clip=n, start=(n - 1) * CLIP, stop=n * CLIP, label=LABELS.names[n % 2])
        for n in range(1, TRIALS + 1)
    )
    info = RecordingInfo(
        recording_id=f"{subject}-{session}",
        subject=f"s{subject}",
        session=str(session),
        channels=CHANNELS,
        sfreq_hz=float(SFREQ_HZ),
        n_times=TRIALS * CLIP,
        source_sha256="0" * 64,
        ingest_digest=f"{subject}{session}" * 32,
        provenance={},
        trials=trials,
    )
    level = np.repeat([loudness(subject, session, n) for n in range(1, TRIALS + 1)], CLIP)
    signal = (10 * level * rng.normal(size=(len(CHANNELS), TRIALS * CLIP))).reshape(len(CHANNELS), TRIALS, CLIP)
    store.write_recording(info, signal[:, list(shown)].reshape(len(CHANNELS), -1))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = create_store(tmp_path_factory.mktemp("references") / "store.zarr", dataset="loud", label_set=LABELS)
    for subject in range(4):
        for session in (1, 2):
            write(made, subject, session)
    return made


def under(store, rule: str, **changed) -> EEGData:
    windows = {
        "window_seconds": 1.0,
        "stride_seconds": 1.0,
        "normalisation": RULES[rule][0],
        "adaptation": rule,
    } | changed
    split = BySubject(train=("s0", "s1"), validation=("s2",), test=("s3",))
    claims = tuple(CLAIM_KINDS)
    return EEGData.open(DataConfig(store=str(store.root), windows=WindowConfig(**windows), split=split, claims=claims))


def reliable(scaler: QuantityScaler) -> np.ndarray:
    return scaler.reliability >= CHOICE.reliability


def log_power(store, channels: list[int], low: float, high: float) -> pd.DataFrame:
    """Log band power of every window in microvolts, computed anew, with where it is."""
    windows = Windows(store, WindowConfig(window_seconds=1.0, stride_seconds=1.0))
    freqs = np.fft.rfftfreq(SFREQ_HZ, 1 / SFREQ_HZ)
    signal = windows.read(np.arange(len(windows)))[:, channels].astype(np.float64)
    power = np.abs(np.fft.rfft(signal))[..., (freqs >= low) & (freqs < high)] ** 2
    return windows.table.assign(value=np.log(power.mean(axis=(1, 2)) / SFREQ_HZ))


def truth(store, rule: str, subjects: list[str], fitted: list[str]) -> np.ndarray:
    """Deviations of central alpha power of the subjects' windows, by the definition of the rule."""
    every = log_power(store, [4, 5], 8.0, 14.0)
    own = every[every["subject"].isin(subjects)].reset_index(drop=True)
    if rule == "none":
        return (own["value"] - every.loc[every["subject"].isin(fitted), "value"].mean()).to_numpy()
    found = []
    for line in own.itertuples():
        session = own[(own["subject"] == line.subject) & (own["session"] == line.session)]
        before = session[session["start"] + SFREQ_HZ <= line.start]
        found.append(line.value - before["value"].mean() if len(before) else 0.0)
    return np.array(found)


@pytest.mark.parametrize("rule", ["none", "causal"])
def test_a_deviation_is_from_the_reference_that_the_rule_names(store, rule):
    data = under(store, rule)
    scaler = data.measured_windows(data.split.train).scaler()
    measured = data.measured_windows(data.split.test)
    place = measured.measures.names.index("power alpha central")
    found = scaler.standardise(measured(np.arange(len(measured.windows))))[:, place]
    expected = truth(store, rule, ["s3"], ["s0", "s1"]) / scaler.std[place]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_population_is_that_of_the_fitted_windows_and_a_loud_person_is_above_it(store):
    data = under(store, "none")
    measured = data.measured_windows(data.split.train)
    scaler = measured.scaler()
    standard = scaler.standardise(measured(np.arange(len(measured.windows))))
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(standard.std(axis=0)[scaler.std > 1e-3], 1, atol=1e-3)
    powers = [place for place, name in enumerate(scaler.names) if name.startswith("power")]
    loud = data.measured_windows(data.split.test)
    deviations = scaler.standardise(loud(np.arange(len(loud.windows))))
    assert (deviations[:, powers].mean(axis=0) > 1).all()


@pytest.mark.parametrize("number", [0, 1, 5, 17, 31])
def test_a_causal_reference_reads_no_later_window_and_no_other_session(store, number, monkeypatch):
    data = under(store, "causal")
    measured = data.measured_windows(data.split.test)
    own = measured.windows.table.iloc[number]
    read, seen = measured._whole.read, []
    monkeypatch.setattr(measured._whole, "read", lambda ids: seen.append(measured._whole.describe(ids)) or read(ids))
    deviations = measured(np.array([number]))
    touched = pd.concat(seen)
    assert set(touched["subject"]) == {own["subject"]}
    assert set(touched["session"]) == {own["session"]}
    assert (touched["stop"] <= own["start"]).sum() == len(touched) - 1
    assert touched["stop"].max() == own["stop"]
    assert (number == 0) == (not deviations.any())


def test_what_comes_later_changes_no_causal_deviation(store, tmp_path):
    """The same recordings, with the last three trials' signals in another order."""
    other = create_store(tmp_path / "store.zarr", dataset="loud", label_set=LABELS)
    for subject in range(4):
        for session in (1, 2):
            write(other, subject, session, shown=(0, 1, 2, 3, 4, 7, 5, 6))
    found = []
    for one in (store, other):
        data = under(one, "causal")
        measured = data.measured_windows(data.split.test)
        found.append(measured(np.arange(len(measured.windows))))
        early = measured.windows.table["trial"].to_numpy() <= 5
    np.testing.assert_array_equal(found[0][early], found[1][early])
    assert np.abs(found[0][~early] - found[1][~early]).max() > 0.2


def test_overlapping_windows_are_not_earlier_ones(store):
    data = under(store, "causal", stride_seconds=0.25)
    measured = data.measured_windows(Side(subjects=("s3",), sessions=("1",)))
    whole = measured._whole.table
    for number in (1, 4, 60, 100):
        before = measured._sessions.earlier(number)
        line = whole.iloc[number]
        same = whole[(whole["session"] == line["session"]) & (whole["subject"] == line["subject"])]
        assert before.tolist() == same.index[same["stop"] <= line["start"]].tolist()


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_the_shipped_jobs_make_true_claims_that_name_their_reference(store, rule):
    """Trials differ in loudness by far: which side of the reference a window is on is known beforehand."""
    data = under(store, rule)
    scaler = data.measured_windows(data.split.train).scaler()
    source = ClaimedWindows(data, data.split.test, scaler, CHOICE)
    assert reliable(scaler)[scaler.names.index("power beta central")]
    claims = [claim for window in range(len(source)) for claim in source.facts(window).claims]
    assert len(claims) > len(source)
    assert {claim.reference for claim in claims} == {RULES[rule][1]}
    assert all(RULES[rule][2] in claim.sentence() for claim in claims)
    assert all(reliable(scaler)[scaler.names.index(claim.quantity.name)] for claim in claims)
    table, right = source.windows.table, []
    every = pd.DataFrame(
        [
            (f"s{subject}", str(session), trial, np.log(loudness(subject, session, trial)))
            for subject in range(4)
            for session in (1, 2)
            for trial in range(1, TRIALS + 1)
        ],
        columns=["subject", "session", "trial", "level"],
    )
    for window, line in enumerate(table.itertuples()):
        own = every[(every["subject"] == line.subject) & (every["session"] == line.session)]
        level = own.loc[own["trial"] == line.trial, "level"].item()
        first = int(own["trial"].min())
        reference = {
            "none": every.loc[every["subject"].isin(["s0", "s1"]), "level"].mean(),
            "causal": own.loc[own["trial"] < line.trial, "level"].mean() if line.trial > first else level,
            "transductive-unlabelled": own["level"].mean(),
        }[rule]
        if abs(level - reference) > 0.25:
            (text,) = {" ".join(claim.sentence() for claim in source.facts(window).claims)}
            said = [claim for claim in statements_in(text).claims if claim.quantity.kind == "power"]
            right += [claim.above == (level > reference) for claim in said]
    assert len(right) > 30
    assert np.mean(right) > 0.95


def test_reliability_is_the_correlation_of_neighbouring_windows(store):
    data = under(store, "transductive-unlabelled", stride_seconds=0.5)
    measured = data.measured_windows(data.split.train)
    first, second = neighbours(measured.windows)
    table = measured.windows.table
    assert (table["stop"].to_numpy()[first] == table["start"].to_numpy()[second]).all()
    assert (table["trial"].to_numpy()[first] == table["trial"].to_numpy()[second]).all()
    assert len(first) == 2 * 2 * TRIALS * 5  # 7 windows a trial
    values = measured(np.arange(len(table)))
    expected = [np.corrcoef(values[first, column], values[second, column])[0, 1] for column in range(values.shape[1])]
    scaler = measured.scaler()
    np.testing.assert_allclose(scaler.reliability, np.nan_to_num(expected), atol=1e-4)
    names = np.array(scaler.names)
    assert reliable(scaler)[[name.startswith("power") and "delta" not in name for name in names]].all()
    assert not reliable(scaler)[[name.startswith(("variability", "bursts")) for name in names]].any()


@pytest.mark.parametrize("rule", ["none", "transductive-unlabelled"])
def test_where_trials_have_one_window_reliability_is_that_of_its_halves(store, rule):
    data = under(store, rule, window_seconds=4.0, stride_seconds=4.0)
    measured = data.measured_windows(data.split.train)
    assert len(neighbours(measured.windows)[0]) == 0
    scaler = measured.scaler()
    names = np.array(scaler.names)
    assert reliable(scaler)[names == "power beta central"].all()
    assert not reliable(scaler)[names == "blinks"].any()


def test_the_halves_are_stepped_up_to_the_whole(store):
    data = under(store, "transductive-unlabelled", window_seconds=4.0, stride_seconds=4.0)
    windows = data.measured(data.split.train)
    found = split_half(windows, None, tuple(CLAIM_KINDS))
    signal = windows.read(np.arange(len(windows)))
    measures = SignalMeasures(windows.channels, windows.sfreq_hz, windows.n_times // 2, tuple(CLAIM_KINDS))
    r = correlation(measures(signal[..., :256]).astype(float), measures(signal[..., 256:]).astype(float))
    np.testing.assert_allclose(found, np.where(r > 0, 2 * r / (1 + r), r), atol=1e-6)


def test_windows_too_short_to_halve_claim_nothing(store):
    data = under(store, "none", window_seconds=0.75, stride_seconds=4.0)
    scaler = data.measured_windows(data.split.train).scaler()
    assert np.isnan(scaler.reliability).all()
    assert not reliable(scaler).any()
