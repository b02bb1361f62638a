"""Powers are moved in the signal to where they are wanted, and a reader of the signal is told from one that is not."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.wording import AVERAGES
from e2llm_core.evaluation.faithfulness.checks import checks
from e2llm_core.evaluation.faithfulness.edits import BandEdit, edited
from e2llm_core.evaluation.faithfulness.flip import drawn, flips
from e2llm_core.evaluation.faithfulness.metrics import CHECKS
from e2llm_core.evaluation.faithfulness.moves import REACHED_SD, Mover
from e2llm_core.evaluation.faithfulness.settings import FaithfulnessSettings
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.faithfulness.sufficiency import training_claims
from e2llm_core.evaluation.summary import Provenance
from e2llm_core.llm.families.qwen import QWEN
from e2llm_core.stages.language import ClaimedWindows, label_means
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.tasks.dialogue import conclusion
from e2llm_core.tasks.facts import ClaimChoice
from storage.signal.bands import BANDS
from storage.signal.channels import region_of
from storage.windows import Windows


@pytest.fixture(scope="module")
def measured(data) -> MeasuredWindows:
    return data.measured_windows(data.split.train)


@pytest.fixture(scope="module")
def scaler(measured):
    found = measured.scaler()
    return replace(found, reliability=np.ones(len(found.names), dtype=np.float32))


def after(measured, scaler, windows, edits) -> np.ndarray:
    """Deviations of edited windows, measured without the mover."""
    source = measured.windows
    change = partial(edited, edits=edits, channels=source.channels, sfreq_hz=source.sfreq_hz)
    moved = measured.measures(source.read(windows, change=change)) - measured.measures(source.read(windows))
    return scaler.standardise(measured(windows) + moved)


def spoken(measured, scaler, *, texts=None) -> Spoken:
    """The strongest two claims about every window, all of which hold."""
    count = len(measured.windows)
    deviations = scaler.standardise(measured(np.arange(count)))
    quantities = measured.measures.quantities
    if texts is None:
        choice, known = ClaimChoice(number=3, smallest=0, reliability=0), (None, None, measured.reference)
        said = [[claim.sentence() for claim in choice.claims(quantities, line, *known)] for line in deviations]
        texts = [f"<think>\n{' '.join(each)} This points to sad.\n</think>\n\nsad" for each in said]
    keys = {"task": "IED", "model": "4b", "condition": "eeg", "readout": "generation", "prompt": "seen"}
    shown = measured.windows.table
    rows = pd.DataFrame({**keys, "subject": shown["subject"], "truth": shown["label"], "answer": "sad", "text": texts})
    rows = rows.assign(labels=[("sad", "happy", "neutral")] * count, segments=[[{"clip": 1}]] * count)
    provenance = Provenance(split="test", split_digest="0")
    return Spoken(rows, np.arange(count), quantities, measured.reference, deviations, provenance)


class Reader:
    """Says what is measured in the signal that it is shown, or what it said before."""

    def __init__(self, measured, scaler, reads: bool) -> None:
        self.measured, self.scaler, self.reads = measured, scaler, reads

    def likelihoods(self, check, windows, prefixes, continuations, edits=()):
        shown = after(self.measured, self.scaler, windows, edits or [None] * len(windows))
        nll = []
        for line, prefix, words in zip(shown, prefixes, continuations, strict=True):
            average = AVERAGES[self.measured.reference][0]
            said = [statements_in(f"{prefix}{word} {average}.").claims[-1] for word in words]
            column = self.measured.measures.quantities.index(said[0].quantity)
            right = [(line[column] > 0) == claim.above for claim in said] if self.reads else [True, False]
            nll.append([0.0 if one else 1.0 for one in right])
        return np.array(nll)

    def texts(self, check, windows, edits):
        shown = after(self.measured, self.scaler, windows, edits if self.reads else [None] * len(windows))
        quantities = self.measured.measures.quantities
        return [
            " ".join(
                Claim(q, bool(v > 0), reference=self.measured.reference).sentence()
                for q, v in zip(quantities, line, strict=True)
            )
            for line in shown
        ]


def values(numbers) -> dict[str, float]:
    return {number.row.metric: number.row.value for number in numbers}


def test_an_edit_scales_its_band_and_region_alone(data):
    plain = data.config.windows.model_copy(update={"normalisation": "none", "adaptation": "none"})
    source = Windows(data.store, plain, data.split.train.rows(data.store.trials))
    edits = [BandEdit("alpha", "left frontal", 3.0), None, BandEdit("gamma", "occipital", 0.0)]
    change = partial(edited, edits=edits, channels=source.channels, sfreq_hz=source.sfreq_hz)
    before, moved = source.read([0, 1, 2]), source.read([0, 1, 2], change=change)
    assert np.array_equal(moved[1], before[1])
    freqs = np.fft.rfftfreq(source.n_times, 1 / source.sfreq_hz)
    regions = np.array([region_of(name) for name in source.channels])
    for place, edit in ((0, edits[0]), (2, edits[2])):
        low, high = BANDS[edit.band]
        gains = np.ones((len(regions), len(freqs)))
        gains[np.ix_(regions == edit.region, (freqs >= low) & (freqs < high))] = edit.gain
        expected = np.fft.rfft(before[place]) * gains
        np.testing.assert_allclose(np.fft.rfft(moved[place]), expected, atol=2e-2)
    absent = edited(before, [BandEdit("alpha", "parietal", 9.0)] * 3, source.channels, source.sfreq_hz)
    assert np.array_equal(absent, before), "a region without channels"


@pytest.mark.parametrize("target", [-1.5, 0.0, 1.5, 3.0])
def test_powers_reach_their_targets_and_it_is_measured(measured, scaler, target):
    mover, quantities = Mover(measured, scaler), measured.measures.quantities
    windows = np.arange(len(measured.windows))
    wanted = [quantities[place % 5 * len(measured.measures.regions)] for place in windows]
    moved = mover(windows, wanted, np.full(len(windows), target))
    assert moved.made.all()
    columns = [quantities.index(quantity) for quantity in wanted]
    shown = after(measured, scaler, windows, moved.edits)
    np.testing.assert_allclose(shown, moved.deviations, atol=2e-2)
    np.testing.assert_allclose(shown[windows, columns], target, atol=REACHED_SD)
    assert [(edit.band, edit.region) for edit in moved.edits] == [(one.band, one.region) for one in wanted]


def test_what_is_no_power_cannot_be_moved(measured, scaler):
    with pytest.raises(ValueError, match="only powers can be moved, not bursts beta central"):
        Mover(measured, scaler)(np.array([0]), [Quantity("bursts", "beta", "central")], np.array([1.0]))


def test_a_reader_of_the_signal_flips_and_one_that_repeats_itself_does_not(measured, scaler):
    given, mover = spoken(measured, scaler), Mover(measured, scaler)
    found = flips(given, mover, Reader(measured, scaler, reads=True), 100, 0)
    assert [number.row.metric for number in found] == [
        "flip_likelihood",
        "flip_generation",
        "flip_other",
        "flip_reached",
        "flip_leakage",
    ]
    reading, repeating = values(found), values(flips(given, mover, Reader(measured, scaler, reads=False), 100, 0))
    assert (reading["flip_likelihood"], reading["flip_generation"], reading["flip_other"]) == (1.0, 1.0, 0.0)
    assert (repeating["flip_likelihood"], repeating["flip_generation"], repeating["flip_other"]) == (0.0, 0.0, 0.0)
    assert reading["flip_reached"] == pytest.approx(1.5, abs=REACHED_SD)
    assert 0 < reading["flip_leakage"] < 0.5
    assert {number.row.readout for number in found if number.row.metric != "flip_generation"} == {"likelihood"}


def test_windows_are_drawn_over_all_subjects_and_claims_that_do_not_hold_are_not(measured, scaler):
    given = spoken(measured, scaler)
    some = drawn(given, 5, 0)
    assert len(some) == 5
    assert some == drawn(given, 5, 0)
    assert [one.item for one in some] == sorted(one.item for one in some)
    assert drawn(given, 5, 1) != some
    everyone = drawn(given, 1000, 0)
    assert {given.subjects[one.item] for one in everyone} == set(given.subjects)
    for one in everyone:
        column = given.column[one.said.claim.quantity]
        assert (given.deviations[one.item, column] > 0) == one.said.claim.above
        prefix, (word, opposite) = one.place(given.texts[one.item])
        assert given.texts[one.item].startswith(prefix + word)
        assert {word, opposite} == {" above", " below"}
        named = {claim.quantity for claim in given.claims[one.item]}
        assert one.other is not None
        assert given.quantities[one.other] not in named
        assert given.quantities[one.other].kind == "power"


@pytest.mark.parametrize(
    "said",
    [
        "This points to sad.",
        None,
        Claim(Quantity("bursts", "beta", "central"), True).sentence(),
        Claim(Quantity("power", "alpha", "parietal"), True).sentence(),  # the montage has no such channels
    ],
)
def test_without_a_power_that_is_named_nothing_is_reported(measured, scaler, said):
    given = spoken(measured, scaler, texts=[said] * len(measured.windows))
    assert flips(given, Mover(measured, scaler), Reader(measured, scaler, reads=True), 100, 0) == []


def test_checks_that_are_switched_off_ask_nothing(data, measured, scaler):
    off = FaithfulnessSettings(flips=0, uses=0)
    found = checks(spoken(measured, scaler), measured, scaler, data, None, QWEN, conclusion, off, 0)
    asking = {name for name in CHECKS if name.startswith(("flip_", "use_"))}
    assert {number.row.metric for number in found} == set(CHECKS) - asking


def test_the_reader_of_claims_learns_from_the_stages_own_rule(data, scaler):
    said, labels = training_claims(data, scaler)
    source = ClaimedWindows(data, data.split.train, scaler, None, label_means(data, scaler))
    assert said == [list(source.facts(window).claims) for window in range(len(source))]
    assert labels == [source.label(window) for window in range(len(source))]
