"""A hundred files, the same in every run: our readers against the truth, value by value and event by event."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import FORMATS, compare_one


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=17, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_read_is_what_was_written(suffix: str, data: st.DataObject) -> None:
    compare_one(suffix, data)
