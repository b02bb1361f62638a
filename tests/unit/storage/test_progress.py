"""Lines that tell how far counted work is."""

import pytest

from storage import progress
from storage.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (-3, "0:00"), (61.4, "1:01"), (3599.6, "1:00:00"), (7325, "2:02:05")]
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown


def test_one_line_a_second_and_one_at_the_end(monkeypatch, capsys) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    told = Progress("verify", 20, done=8)
    for done in range(9, 21):
        now += 0.5
        told.show(done)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[verify] 9/20  eta 0:06"
    assert lines[-1] == "[verify] 20/20  eta 0:00"
    assert len(lines) == 7


def test_words_stand_between_count_and_eta() -> None:
    assert Progress("stage1", 10, done=10).line(10, "train", "loss 0.5") == "[stage1] 10/10  train  loss 0.5  eta 0:00"
