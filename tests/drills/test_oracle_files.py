"""Thousands of files against their truth: as the unit test, ``E2LLM_ORACLE_FILES`` (10,000) of them in all."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import FORMATS, compare_one

NUM_FILES = int(os.environ.get("E2LLM_ORACLE_FILES", "10000"))


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=max(1, NUM_FILES // len(FORMATS)), suppress_health_check=list(HealthCheck), derandomize=False)
@given(data=st.data())
def test_what_is_read_is_what_was_written(suffix: str, data: st.DataObject) -> None:
    compare_one(suffix, data)
