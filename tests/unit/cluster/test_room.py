"""Which jobs fit side by side."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import Resources, TrainingResources, fitting
from cluster.room import Room

AMOUNTS = st.sampled_from([0.5, 1.0, 2.0])
NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 6).map(float), "GPU": st.integers(0, 2).map(float)}), max_size=3
)


def test_jobs_fit_until_there_is_no_room_and_again_when_one_has_ended():
    room = Room([{"CPU": 4.0}])
    job = Resources(workers=2, cpus_per_worker=1)
    first, second = room.take(job), room.take(job)
    assert first is not None
    assert second is not None
    assert room.take(job) is None
    room.give_back(first)
    assert room.take(job) is not None


def test_a_worker_is_on_one_node():
    room = Room([{"CPU": 1.0}, {"CPU": 1.0}])
    assert room.take(Resources(workers=1, cpus_per_worker=2)) is None
    assert room.take(Resources(workers=2, cpus_per_worker=1)) is not None


def test_an_elastic_run_takes_its_fewest_workers():
    room = Room([{"CPU": 4.0, "GPU": 2.0}])
    elastic = TrainingResources(workers={"min": 1, "max": 8}, gpus_per_worker=1)
    assert room.take(elastic) is not None
    assert room.take(elastic) is not None
    assert room.take(elastic) is None


@given(NODES, AMOUNTS, st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 4))
def test_as_many_fit_as_the_nodes_have_room_for(nodes, cpus, gpus, workers):
    resources = Resources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    room, taken = Room(nodes), []
    while (one := room.take(resources)) is not None:
        taken.append(one)
    assert len(taken) == fitting(resources, nodes) // workers
    for one in taken:
        room.give_back(one)
    assert sum(room.take(resources) is not None for _ in taken) == len(taken)
