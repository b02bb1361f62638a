import threading

import pytest

from cluster.resources import TrainingResources
from cluster.train import capacity


def asked(**settings: object) -> TrainingResources:
    return TrainingResources.model_validate(settings)


def elastic(least: int, most: int) -> TrainingResources:
    return asked(workers={"min": least, "max": most, "check_seconds": 0.01})


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[bool, int]:
    """Room for workers, by whether only free room counts."""
    found = {True: 0, False: 0}
    monkeypatch.setattr(capacity, "room", lambda resources, *, free: found[free])
    monkeypatch.setattr(capacity, "_LOOK_SECONDS", 0.01)
    return found


@pytest.mark.parametrize(("free", "expected"), [(1, 1), (5, 5), (9, 8)])
def test_an_elastic_run_takes_what_there_is(there, free, expected):
    there[True] = free
    assert capacity.number_of_workers(elastic(1, 8), lambda: False) == expected


def test_a_fixed_number_is_taken_as_it_is(there):
    assert capacity.number_of_workers(asked(workers=3), lambda: False) == 3


def test_too_little_room_is_waited_for(there):
    threading.Timer(0.1, lambda: there.update({True: 2})).start()
    assert capacity.number_of_workers(elastic(2, 4), lambda: False) == 2


def test_waiting_ends_when_the_run_is_asked_to_stop(there):
    assert capacity.number_of_workers(elastic(2, 4), lambda: True) == 2


@pytest.mark.parametrize(
    ("resources", "free", "total", "grows"),
    [
        (elastic(1, 4), 1, 3, True),
        (elastic(1, 4), 0, 2, False),
        (elastic(1, 4), 2, 2, False),  # its own workers are not placed yet
        (elastic(1, 2), 1, 3, False),
        (asked(workers=2), 1, 3, False),
    ],
)
def test_a_run_of_two_workers_grows_when_there_is_room(there, resources, free, total, grows):
    there |= {True: free, False: total}
    found = threading.Event()
    with capacity.looking_for_room(resources, 2, found.set):
        assert found.wait(30 if grows else 0.3) == grows
