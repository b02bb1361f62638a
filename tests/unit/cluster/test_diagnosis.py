"""What the doctor says of which facts."""

import pytest

from cluster.doctor.diagnosis import AllReduce, diagnose
from cluster.doctor.node import NodeFacts, StorageFacts, examine_storage

FAST = StorageFacts(is_shared=True, write_rate=9e8, read_rate=3e9, free_bytes=int(1e12))
NODE = NodeFacts(
    name="a",
    versions={"python": "3.11.7", "torch": "2.13.0"},
    gpus=["NVIDIA H200"],
    torch_cuda="12.8",
    flash_attention="2.8.3",
    open_files=65536,
    free_bytes=int(1e12),
    storage=FAST,
)
NETWORK = AllReduce(ranks=2, nodes=2, backend="nccl", rate=4e10)


def other(**change):
    return NODE.model_copy(update={"name": "b", **change})


def bad(*nodes, reduced=NETWORK):
    found = diagnose([NODE, *nodes], "/shared", reduced)
    assert all(bool(each.remedy) == (each.verdict != "well") for each in found)
    return [(each.topic, each.verdict, each.found) for each in found if each.verdict != "well"]


def test_two_good_nodes():
    assert bad(other()) == []
    topics = [each.topic for each in diagnose([NODE, other()], "/shared", NETWORK)]
    assert topics == ["versions", "GPUs", "storage", "free disk", "free disk", "open files", "clocks", "all-reduce"]


def test_no_gpu_is_no_fault():
    assert bad(other(gpus=[], torch_cuda="", flash_attention="")) == []


@pytest.mark.parametrize(
    ("change", "topic", "verdict", "said"),
    [
        ({"versions": {"python": "3.11.7", "torch": "2.12.0"}}, "versions", "wrong", "torch: 2.13.0 on a; 2.12.0 on b"),
        ({"versions": {"python": "3.11.7"}}, "versions", "wrong", "absent on b"),
        ({"torch_cuda": ""}, "GPUs", "wrong", "torch is a CPU build on b"),
        ({"flash_attention": ""}, "GPUs", "doubtful", "not installed on b"),
        ({"storage": StorageFacts(problem="permission denied")}, "storage", "wrong", "b: /shared: permission denied"),
        ({"storage": FAST.model_copy(update={"is_shared": False})}, "storage", "wrong", "not the one that the other"),
        ({"storage": FAST.model_copy(update={"read_rate": 1e6})}, "storage", "doubtful", "reads back 1 MB/s"),
        ({"storage": FAST.model_copy(update={"free_bytes": 10**8})}, "free disk", "wrong", "data and runs: least on b"),
        ({"free_bytes": int(5e9)}, "free disk", "doubtful", "temporary files: least on b, 5.0 GB"),
        ({"open_files": 1024}, "open files", "doubtful", "least on b: 1,024"),
        ({"clock_offset": -7.5, "clock_error": 0.1}, "clocks", "doubtful", "b, -7.50 s"),
    ],
)
def test_what_is_not_well_is_named_with_its_node(change, topic, verdict, said):
    ((found_topic, found_verdict, found),) = bad(other(**change))
    assert (found_topic, found_verdict) == (topic, verdict)
    assert said in found


def test_a_clock_is_not_blamed_for_a_slow_answer():
    assert bad(other(clock_offset=3.0, clock_error=2.5)) == []


@pytest.mark.parametrize(
    ("reduced", "verdict"),
    [
        (AllReduce(ranks=2, nodes=2, backend="gloo", problem="timed out"), "wrong"),
        (AllReduce(ranks=2, nodes=2, backend="gloo", rate=1e8), "doubtful"),
    ],
)
def test_a_network_that_is_absent_or_slow(reduced, verdict):
    ((topic, found, _),) = bad(reduced=reduced)
    assert (topic, found) == ("all-reduce", verdict)


def test_two_ranks_of_one_node_say_nothing_of_a_network():
    assert bad(reduced=AllReduce(ranks=2, nodes=1, backend="gloo", rate=1e8)) == []


def test_storage_is_written_read_and_left_as_it_was(tmp_path):
    (tmp_path / "marker").touch()
    facts = examine_storage(str(tmp_path), "marker")
    assert facts.is_shared
    assert not facts.problem
    assert min(facts.write_rate, facts.read_rate) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["marker"]


def test_storage_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    assert "file" in examine_storage(str(tmp_path / "file"), "marker").problem


def test_storage_of_another_node(tmp_path):
    assert not examine_storage(str(tmp_path), "marker").is_shared
