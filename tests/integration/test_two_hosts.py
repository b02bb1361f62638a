"""One cluster of two hosts, each with an address, a process table and a temporary folder of its own."""

import time

import pytest

from tests.two_hosts import BIN, join, places_on_two_hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with places_on_two_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def joined(hosts):
    """The head's and the node's words when they were started as the head says."""
    return join(*hosts)


def wait_for_status(head, text):
    deadline = time.monotonic() + 240
    while text not in (said := head.cluster("status")):
        assert time.monotonic() < deadline, said
        time.sleep(0.5)


def test_the_head_lists_both_hosts_and_the_ports_to_open(hosts, joined):
    head, node = hosts
    said, answer = joined
    assert f"dashboard http://{head.address}:21001" in said
    assert "port 21000, dashboard-port 21001" in said
    assert f"this host is a node of {head.address}:21000" in answer
    assert "workers 210" in answer
    wait_for_status(head, f"# node {node.address}: 1 CPUs, 0 GPUs\n")
    assert f"# head {head.address}: 1 CPUs, 0 GPUs\n" in head.cluster("status")
    for host in hosts:
        assert len(list(host.temporary.glob("e2-*"))) == 1
        assert (host.state / "token").stat().st_mode & 0o777 == 0o600


def test_a_token_of_another_cluster_is_refused(hosts, joined):
    head, node = hosts
    wrong = node.folder / "wrong.token"
    wrong.touch(0o600)
    wrong.write_text("0" * 64)
    options = ["--token", str(wrong), "--dir", str(node.folder / "other")]
    done = node.run(str(BIN / "e2llm"), "cluster", "join", f"{head.address}:21000", *options)
    assert done.returncode == 2
    assert done.stderr == f"error: --token: is not the token of {head.address}:21000. Copy it from the head again.\n"
    assert not (node.folder / "other").exists()


def test_each_host_ends_what_it_started_and_no_more(hosts, joined):
    head, node = hosts
    assert "processes ended" in node.cluster("down")
    assert not node.state.exists()
    assert not list(node.temporary.glob("e2-*"))
    wait_for_status(head, f"# node {node.address}: 1 CPUs, 0 GPUs, lost\n")
    assert int(head.cluster("down").split()[0]) > 5
    assert not list(head.temporary.glob("e2-*"))
