import os
import signal
from pathlib import Path
from queue import SimpleQueue

import pytest

from cluster.train.stopping import Stopped, StopRequest, first_signal
from jobs.console import exit_discipline
from storage.errors import InputError


def test_a_request_is_seen_by_others_until_a_new_launch(tmp_path: Path) -> None:
    launcher = StopRequest(tmp_path / "run")
    worker = StopRequest(tmp_path / "run", launcher.begin())
    assert not worker.is_made()
    launcher.make()
    assert worker.is_made()
    assert not launcher.is_final
    later = StopRequest(tmp_path / "run", StopRequest(tmp_path / "run").begin())
    assert not later.is_made()
    assert worker.is_made(), "workers of an attempt that was given up end"


def test_a_final_request_is_repeated_until_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = StopRequest(tmp_path / "run")
    worker = StopRequest(tmp_path / "run", request.begin())
    plain, failures = StopRequest.make, [OSError("full"), InputError("s3://x", "silent", "Wait.")]

    def make(self: StopRequest) -> None:
        if failures:
            raise failures.pop()
        plain(self)

    monkeypatch.setattr(StopRequest, "make", make)
    monkeypatch.setattr("cluster.train.stopping._AGAIN_SECONDS", 0.0)
    request.make_final()
    assert request.is_final
    assert worker.is_made()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_asks_and_the_second_ends(number: int) -> None:
    asked: SimpleQueue[int] = SimpleQueue()
    earlier: list[int] = []
    before = signal.signal(number, lambda *_: earlier.append(number))
    try:
        with first_signal(lambda: asked.put(number)):
            os.kill(os.getpid(), number)
            assert asked.get(timeout=5) == number
            assert not earlier
            os.kill(os.getpid(), number)
        assert earlier == [number]
        os.kill(os.getpid(), number)
        assert earlier == [number, number]
        assert asked.empty()
    finally:
        signal.signal(number, before)


def test_without_a_signal_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with first_signal(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_run_ends_with_the_status_of_a_temporary_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_discipline():
        raise Stopped("runs/stage1")
    assert ended.value.code == os.EX_TEMPFAIL == 75
    assert "start the job again to go on: runs/stage1" in capsys.readouterr().err
