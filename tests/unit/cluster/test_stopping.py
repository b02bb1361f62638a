import os
import signal
from pathlib import Path

import pytest

from cluster.stopping import Stopped, StopRequest, first_signal
from jobs.console import exit_discipline


def test_a_request_is_seen_by_others_until_a_new_launch(tmp_path: Path) -> None:
    launcher, worker = StopRequest(tmp_path / "run"), StopRequest(tmp_path / "run")
    launcher.withdraw()
    assert not worker.is_made()
    launcher.make()
    assert worker.is_made()
    assert not launcher.is_final
    StopRequest(tmp_path / "run").withdraw()
    assert not worker.is_made()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_asks_and_the_second_ends(number: int) -> None:
    asked: list[int] = []
    earlier: list[int] = []
    before = signal.signal(number, lambda *_: earlier.append(number))
    try:
        with first_signal(lambda: asked.append(number)):
            os.kill(os.getpid(), number)
            assert (asked, earlier) == ([number], [])
            os.kill(os.getpid(), number)
        assert (asked, earlier) == ([number], [number])
        os.kill(os.getpid(), number)
        assert (asked, earlier) == ([number], [number, number])
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
