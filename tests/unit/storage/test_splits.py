import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import InputError
from storage.splits import SplitConfig, resolve_split

DIGEST = "47fd18ad6e5d835c"


def trials(num_subjects: int) -> pd.DataFrame:
    rows = [(f"{subject:02d}", "1", clip) for subject in range(1, num_subjects + 1) for clip in (1, 2)]
    return pd.DataFrame(rows, columns=["subject", "session", "clip"])


@given(st.data(), st.integers(2, 30), st.integers(0, 100))
def test_roles_are_disjoint_and_as_large_as_asked(data: st.DataObject, subjects: int, seed: int) -> None:
    train = data.draw(st.integers(1, subjects - 1))
    test = data.draw(st.integers(1, subjects - train))
    validation = data.draw(st.integers(0, subjects - train - test))
    reserved = data.draw(st.integers(0, train - 1))
    config = SplitConfig(train=train, validation=validation, test=test, reserved=reserved, seed=seed)
    split = resolve_split(config, trials(subjects))
    used = [*split.train, *split.validation, *split.test]
    assert len(set(used)) == len(used) == train + validation + test
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test)
    assert len(split.reserved) == reserved
    assert set(split.reserved) | set(split.fitted_by_stage1) == set(split.train)
    assert not set(split.reserved) & set(split.fitted_by_stage1)
    shuffled = trials(subjects).sample(frac=1, random_state=seed)
    assert resolve_split(config, shuffled).digest == split.digest


def test_digest_is_frozen_and_depends_on_who_is_where() -> None:
    config = SplitConfig(train=("01", "02"), validation=(), test=("03",))
    assert resolve_split(config, trials(3)).digest == DIGEST
    swapped = SplitConfig(train=("01", "03"), validation=(), test=("02",))
    assert resolve_split(swapped, trials(3)).digest != DIGEST
    drawn = [resolve_split(SplitConfig(seed=seed), trials(20)).digest for seed in range(5)]
    assert len(set(drawn)) == 5


def test_shared_axes_are_told() -> None:
    split = resolve_split(SplitConfig(train=("01",), validation=(), test=("02",)), trials(2))
    assert split.shared == ("session", "clip")
    assert split.disjoint_on == ("subject", "recording")
    table = trials(2).assign(clip=[1, 2, 3, 4])
    assert resolve_split(SplitConfig(train=1, validation=0, test=1), table).shared == ("session",)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"train": 3, "validation": 1, "test": 1}, "asks for 5 subjects, the store has 4"),
        ({"train": 0, "validation": 1, "test": 1}, "train and test need at least one subject"),
        ({"train": 2, "validation": 1, "test": 0}, "train and test need at least one subject"),
        ({"train": 2, "validation": 1, "test": 1, "reserved": 2}, "split.reserved: 2 of 2 training"),
        ({"train": ("01",), "validation": ("09",), "test": ("02",)}, "no subject 09 in the store. It has: 01"),
        ({"train": ("01", "02"), "validation": (), "test": ("02",)}, "subject 02 has two roles"),
        ({"train": ("01", "01"), "validation": (), "test": ("02",)}, "subject 01 has two roles"),
        ({"train": (), "validation": (), "test": ("02",)}, "train and test need at least one subject"),
    ],
)
def test_refusals(config: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        resolve_split(SplitConfig(**config), trials(4))


@pytest.mark.parametrize(
    "config", [{"train": ("01",), "test": 2}, {"train": -1}, {"train": True}, {"trian": 3}, {"seed": -1}]
)
def test_bad_configs(config: dict) -> None:
    with pytest.raises(ValidationError):
        SplitConfig(**config)
