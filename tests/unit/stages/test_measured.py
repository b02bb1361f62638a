"""A window is compared with its own session, as the sentences say, whoever reads it and from which side."""

import json

import numpy as np
import pytest

from e2llm_core.stages.data import EEGData
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.probe import CONTENT, load_scaler
from e2llm_core.tasks.facts import ClaimChoice
from storage.errors import InputError
from storage.signal.bands import BANDS
from storage.signal.channels import region_of
from storage.splits import Side
from storage.windows import Windows

ALL = ("s0", "s1", "s2", "s3")


def log_powers(windows: Windows) -> dict[tuple[str, str], np.ndarray]:
    """Log band power of every window by band and region, computed from the whitened signal anew."""
    signal = windows.read(np.arange(len(windows))).astype(np.float64)
    freqs = np.fft.rfftfreq(windows.n_times, 1 / windows.sfreq_hz)
    power = np.abs(np.fft.rfft(signal)) ** 2
    regions = np.array([region_of(name) for name in windows.channels])
    return {
        (band, region): np.log(power[:, regions == region][..., (freqs >= low) & (freqs < high)].mean(axis=(1, 2)))
        for band, (low, high) in BANDS.items()
        for region in set(regions.tolist())
    }


@pytest.mark.parametrize("side", [Side(subjects=("s0", "s3")), Side(subjects=("s1",), clips=(2, 5))])
def test_a_power_claim_says_on_which_side_of_the_session_average_a_window_is(data, side):
    measured = MeasuredWindows(data.measured(side))
    windows, quantities = measured.windows, measured.measures.quantities
    trials = data.store.trials
    whole = Windows(data.store, windows.config, trials[trials["subject"].isin(side.subjects)])
    powers, own = log_powers(whole), whole.table.set_index(["recording_id", "start"])
    deviations = measured(np.arange(len(windows)))
    checked, choice = 0, ClaimChoice(number=len(quantities), smallest=0, reliability=0)
    for row, line in enumerate(windows.table.itertuples()):
        of_session = own["subject"].to_numpy() == line.subject  # one session each
        place = int(own.index.get_loc((line.recording_id, line.start)))
        for claim in choice.claims(quantities, deviations[row]):
            if claim.quantity.kind == "power":
                values = powers[claim.quantity.band, claim.quantity.region]
                difference = values[place] - values[of_session].mean()
                found = deviations[row, quantities.index(claim.quantity)]
                assert found == pytest.approx(difference, abs=1e-4)
                assert claim.above == (difference > 0) or abs(difference) < 1e-4
                checked += 1
    assert checked > 20 * len(side.subjects)


def test_a_session_average_is_exact_up_to_the_bound_and_spread_over_the_session_beyond_it(data, monkeypatch):
    windows = data.measured(Side(subjects=("s2",)))
    values = MeasuredWindows(windows)._values(np.arange(len(windows)))
    assert len(windows) == 12
    for bound, chosen in ((128, range(12)), (12, range(12)), (3, (0, 6, 11)), (2, (0, 11))):
        monkeypatch.setattr("e2llm_core.stages.measured.AVERAGED", bound)
        found = MeasuredWindows(windows)(np.arange(12))
        expected = values - values[list(chosen)].mean(axis=0, dtype=np.float64)
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_deviations_do_not_depend_on_the_side_that_is_read(data):
    """Nor on who asks first: each rank sees other windows of a session."""
    every = MeasuredWindows(data.measured(Side(subjects=ALL)))
    whole = every(np.arange(len(every.windows)))
    known = every.windows.table
    for side in (Side(subjects=("s1",)), Side(subjects=ALL, clips=(1, 4)), data.split.test):
        part = MeasuredWindows(data.measured(side))
        ids = np.random.default_rng(0).permutation(len(part.windows))
        found = {}
        for some in np.array_split(ids, 3):
            found |= dict(zip(some.tolist(), part(some), strict=True))
        places = part.windows.table.merge(known, on=["recording_id", "start"])["window_y"].to_numpy()
        np.testing.assert_array_equal(np.stack([found[n] for n in range(len(ids))]), whole[places])


def test_a_session_is_averaged_once_and_its_windows_are_read_once(data, monkeypatch):
    measured = MeasuredWindows(data.measured(data.split.train))
    read, asked = measured._whole.read, []
    monkeypatch.setattr(measured._whole, "read", lambda ids: asked.extend(ids.tolist()) or read(ids))
    measured.scaler()
    measured(np.arange(len(measured.windows)))
    assert sorted(asked) == list(range(len(measured.windows)))


def test_the_stages_speak_of_one_quantity(data: EEGData, make_stage1, make_stage2):
    """What stage 1 regresses is what stage 2 says and what evaluation checks."""
    stage1, stage2 = make_stage1(), make_stage2()
    fitted = stage1.windows.table.head(5)
    shown = stage2.training.windows.table.merge(fitted, on=["recording_id", "start"])["window_x"].to_numpy()
    regressed = stage1.scaler.standardise(stage1.fitted.measured(fitted["window"].to_numpy()))
    np.testing.assert_array_equal(regressed, stage2.training.deviations(shown))
    whole = stage1.fitted.measured(np.arange(len(stage1.windows)))
    spread = whole.std(axis=0)
    np.testing.assert_allclose(stage1.scaler.std, np.where(spread > 0, spread, 1), rtol=1e-4)


@pytest.mark.parametrize(("version", "said"), [(None, "no version"), (1, "version 1")])
def test_a_model_of_another_table_of_claims_is_refused_by_name(tower_folder, tmp_path, version, said):
    content = json.loads((tower_folder / CONTENT).read_text())
    del content["claim_table"], content["quantities"]
    content |= {"spread": {"power alpha occipital": 1.0}} | ({} if version is None else {"claim_table": version})
    (tmp_path / CONTENT).write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=rf"probe\.json: names {said} of the table of claims; this is version 2\. Run stage 1"
    ):
        load_scaler(tmp_path)


@pytest.mark.parametrize("broken", [None, [], {"power alpha occipital": {"spread": 1.0}}])
def test_a_damaged_probe_is_refused_by_name(tower_folder, tmp_path, broken):
    content = json.loads((tower_folder / CONTENT).read_text()) | {"quantities": broken}
    (tmp_path / CONTENT).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"probe\.json: is damaged: `quantities`"):
        load_scaler(tmp_path)


def test_what_is_known_of_a_quantity_comes_back(tower_folder, make_stage1):
    found, known = load_scaler(tower_folder), make_stage1().scaler
    assert found.names == known.names
    for name in ("std", "mean", "reliability"):
        np.testing.assert_allclose(getattr(found, name), getattr(known, name), rtol=1e-6)


def test_a_model_that_was_fitted_to_other_quantities_is_refused_by_their_names(tower_folder, tmp_path, data):
    assert load_scaler(tower_folder, data.quantities).names == data.quantities
    content = json.loads((tower_folder / CONTENT).read_text())
    content["quantities"]["tone alpha occipital"] = content["quantities"].pop("power alpha occipital")
    (tmp_path / CONTENT).write_text(json.dumps(content))
    lacks, holds = "lacks the quantities: power alpha occipital", "not measured here: tone alpha occipital"
    with pytest.raises(InputError, match=rf"probe\.json: {lacks}; .*{holds}\. Run stage 1"):
        load_scaler(tmp_path, data.quantities)
