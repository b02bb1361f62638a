import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import InputError
from storage.labels import SEED_VII, LabelSet


@given(st.text(), st.text(), st.text())
def test_input_error_is_one_line_and_travels_between_processes(place: str, problem: str, remedy: str) -> None:
    error = InputError(place, problem, remedy)
    assert len(str(error).splitlines()) <= 1
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.place, again.problem, again.remedy) == (place, problem, remedy)


def test_input_error_reads_as_place_problem_remedy() -> None:
    assert str(InputError("a.edf", "is\n  empty", "Fetch it again.")) == "a.edf: is empty. Fetch it again."


def test_seed_vii_ids_are_the_official_ones() -> None:
    assert [SEED_VII.id_of(name) for name in SEED_VII.names] == list(range(7))
    assert (SEED_VII.id_of("disgust"), SEED_VII.id_of("surprise"), len(SEED_VII)) == (0, 6, 7)


def test_unknown_label_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"label 'joy': not in label set SEED-VII\. Use one of: disgust, fear"):
        SEED_VII.id_of("joy")


@pytest.mark.parametrize("names", [("a", "a"), ("a",), ()])
def test_label_sets_need_two_different_names(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        LabelSet(name="x", names=names)
