"""What libraries write to standard error lies in one file, whoever writes it; what is ours is not among it."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.ray_log import ray_log, stderr_in

WRITER = """
import logging, os, subprocess, sys
from pathlib import Path
from cluster.ray_log import stderr_in
with stderr_in(Path(sys.argv[1])):
    print("[score] 1/2", flush=True)
    os.write(2, b"core_worker.cc: from C++\\n")
    print("a warning of Python", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo a child >&2"], check=True)
    if sys.argv[2] == "crash":
        import faulthandler
        faulthandler.enable()
        os.kill(os.getpid(), 11)
print("error: ours", file=sys.stderr)
"""


@pytest.mark.parametrize("end", ["well", "crash"])
def test_the_terminal_shows_what_is_ours(end: str, tmp_path: Path) -> None:
    log = tmp_path / "ray.log"
    log.write_text("of an earlier attempt\n")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(log), end], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[score] 1/2\n"
    assert done.stderr == ("error: ours\n" if end == "well" else "")
    lines = log.read_text().splitlines()
    assert lines[:4] == ["of an earlier attempt", "core_worker.cc: from C++", "a warning of Python", "a child"]
    assert any("Segmentation fault" in line for line in lines) == (end == "crash")


def test_an_exception_is_told_after_the_block(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="ours"), stderr_in(tmp_path / "ray.log"):
        raise ValueError("ours")
    print("seen", file=sys.stderr)
    assert capfd.readouterr().err == "seen\n"


def test_it_lies_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2LLM_SCRATCH", str(tmp_path))
    assert ray_log(tmp_path / "run") == tmp_path / "run/ray.log"
    remote = ray_log("s3://lab/runs/stage1")
    assert remote.name.startswith("stage1-")
    assert remote.parent.parent == tmp_path
    assert remote.parent.is_dir()
