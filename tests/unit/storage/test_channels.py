import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InputError
from storage.signal import SEED_CHANNELS
from storage.signal.channels import REGIONS, canonical_channel, region_of, select_eeg


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("EEG Fp1-Ref", "FP1"),
        ("EEG FP2-LE", "FP2"),
        ("Fc5.", "FC5"),
        ("C3..", "C3"),
        ("fz", "FZ"),
        (" Cz ", "CZ"),
        ("T3", "T7"),
        ("EEG T4", "T8"),
        ("EEG T5-A1", "P7"),
        ("T6", "P8"),
        ("AF7", "AF7"),
        ("PO10", "PO10"),
        ("TP9", "TP9"),
        ("CB1", "CB1"),
        ("Iz", "IZ"),
    ],
)
def test_scalp_electrodes(spelling: str, name: str) -> None:
    assert canonical_channel(spelling) == name


@pytest.mark.parametrize(
    "spelling",
    ["EEG A2-A1", "ECG ECG", "Status", "A1", "M2", "EOG1", "HEO", "EEG 001", "Fp1-F7", "EEG Fpz-Cz", "AF99", ""],
)
def test_what_is_no_scalp_electrode(spelling: str) -> None:
    assert canonical_channel(spelling) is None


@given(
    st.sampled_from(SEED_CHANNELS),
    st.sampled_from(["", "EEG ", "eeg  "]),
    st.sampled_from(["", "-Ref", "-LE", "-A1", "-M2", ".", ".."]),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_any_spelling_of_a_seed_channel(name: str, before: str, after: str, case) -> None:
    assert canonical_channel(f"{before}{case(name)}{after}") == name
    assert canonical_channel(name) == name
    assert region_of(name) in REGIONS


def test_the_seed_montage() -> None:
    assert len(SEED_CHANNELS) == len(set(SEED_CHANNELS)) == 62
    assert SEED_CHANNELS[:3] == ("FP1", "FPZ", "FP2")
    assert SEED_CHANNELS[-3:] == ("OZ", "O2", "CB2")
    assert {region_of(name) for name in SEED_CHANNELS} == set(REGIONS)


def test_select_keeps_order_and_rows() -> None:
    assert select_eeg(["ECG ECG", "EEG T3", "EEG A2-A1", "EEG Oz"], "f") == ([1, 3], ["T7", "OZ"])


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["Status", "EEG 001"], "no channel name of the 10-05 system"),
        (["T3", "Cz", "T7"], r"named twice: \['T7'\]"),
        ([f"{bank}{place}" for bank in "ABC" for place in range(1, 33)], "positions of a BioSemi cap"),
        ([], "no channel name"),
    ],
)
def test_refusals(names: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        select_eeg(names, "some.edf")
    assert str(caught.value).startswith("some.edf: ")


def test_ears_alone_do_not_make_a_biosemi_cap() -> None:
    assert select_eeg(["A1", "A2", "C3", "C4"], "f") == ([2, 3], ["C3", "C4"])
