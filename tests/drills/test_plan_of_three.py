"""The planner's memory against three workers in bfloat16, which a CPU computes slowly."""

from pathlib import Path

import pytest

from tests.integration.test_plan import compare, random_llm

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_what_three_workers_hold(tmp_path: Path) -> None:
    compare(random_llm(tmp_path / "llm"), tmp_path, 3, "bf16", 8, recompute=False)
