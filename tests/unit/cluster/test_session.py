import signal

import pytest

from cluster import session


@pytest.fixture
def previous():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_job_keeps_its_answer_to_sigterm_when_ray_sets_its_own(previous):
    def own(number, frame):
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, own)
    with session.own_sigterm():
        signal.signal(signal.SIGTERM, lambda number, frame: None)
    assert signal.getsignal(signal.SIGTERM) is own
