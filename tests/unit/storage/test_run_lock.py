"""One job per run at a time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.errors import InputError
from storage.places import lock
from storage.places.location import locate
from storage.places.lock import only_ingest, only_job, writing

HOLDER = """
import sys, time
from storage.places.location import locate
from storage.places.lock import only_job
with only_job(locate(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(run: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(run), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    return process


def test_a_second_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs/a"
    first = holder(run, 60)
    monkeypatch.setattr(lock, "_WAIT_SECONDS", 0.3)
    try:
        with pytest.raises(InputError, match="another job is at work in this run"), only_job(locate(run)):
            pytest.fail("two jobs in one run")
        with only_job(locate(tmp_path / "runs/b")):
            pass
    finally:
        first.kill()
        first.wait()
    with only_job(locate(run)):
        pass


def test_a_job_that_is_about_to_end_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, sleep = holder(tmp_path, 600), time.sleep

    def wait(seconds: float) -> None:
        first.terminate()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", wait)
    with only_job(locate(tmp_path)):
        assert first.wait(60) != 0
    assert "another job is at work" in capsys.readouterr().out


def test_a_refused_ingest_leaves_the_token_of_the_one_at_work(tmp_path: Path) -> None:
    """Workers of the first would otherwise take it for ended."""
    with only_ingest(locate(tmp_path)) as token:
        with pytest.raises(InputError, match="another ingest is writing"), only_ingest(locate(tmp_path)):
            pytest.fail("two ingests of one store")
        with writing(locate(tmp_path), token) as confirm:
            confirm()
