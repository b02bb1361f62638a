import subprocess
import sys
from pathlib import Path

import pytest
import torch

from e2llm_core.training.faults import is_out_of_memory

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys, time
from pathlib import Path
from e2llm_core.training.faults import Watchdog

def work(seconds):
    time.sleep(seconds)

with Watchdog(Path(sys.argv[1]), 3, float(sys.argv[2])) as watchdog:
    for _ in range(4):
        watchdog.feed()
        work(float(sys.argv[3]))
print("finished")
"""


def run(folder: Path, limit: float, step: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(limit), str(step)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_hang_ends_the_process_and_leaves_its_stack(tmp_path: Path) -> None:
    done = run(tmp_path, 2, 600)
    assert done.returncode != 0
    assert "in work" in (tmp_path / "stacks/rank-3.txt").read_text()


def test_steps_in_time_leave_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, 60, 0.01)
    assert done.stdout.strip() == "finished"
    assert not list(tmp_path.glob("stacks/*"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("cuda"), MemoryError()])
def test_memory_errors_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_the_allocator_of_the_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("something else"))


def test_the_next_attempt_keeps_the_stack(tmp_path: Path) -> None:
    run(tmp_path, 2, 600)
    assert run(tmp_path, 60, 0.01).returncode == 0
    assert "in work" in (tmp_path / "stacks/rank-3.txt").read_text()
