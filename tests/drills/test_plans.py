"""The planner's memory against one worker's, with LoRA and with recomputation, and three workers' in bfloat16."""

from pathlib import Path

import pytest

from tests.integration.test_plan import compare, random_llm

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize(
    ("workers", "precision", "lora", "recompute"),
    [(1, "fp32", 8, False), (1, "fp32", None, True), (3, "bf16", 8, False)],
)
def test_what_workers_hold(tmp_path: Path, workers: int, precision: str, lora: int | None, recompute: bool) -> None:
    compare(random_llm(tmp_path / "llm"), tmp_path, workers, precision, lora, recompute=recompute)
