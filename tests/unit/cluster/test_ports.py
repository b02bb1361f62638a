import socket

import pytest

from cluster.start.ports import PortRange, assign, free_ports
from storage.errors import InputError

HOST = "127.0.0.1"


@pytest.mark.parametrize("text", ["20000", "20000-19999", "80-90", "60000-70000", "a-b", "-", "20000-20001-20002"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(InputError, match="is no range of ports"):
        PortRange.parse(text)


def test_a_range_is_read_as_it_is_written():
    ports = PortRange.parse("20000-20199")
    assert (len(ports), str(ports)) == (200, "20000-20199")


def test_services_get_the_first_free_ports_of_a_range_and_workers_the_rest():
    with socket.create_server((HOST, 0)) as taken:
        first = taken.getsockname()[1]
        if first + 99 > 65535:
            pytest.skip("too near to the last port")
        found, workers = assign(["one", "two"], HOST, PortRange(first=first, last=first + 99), num_cpus=2)
    assert first < found["one"] < found["two"] < workers.first < workers.last == first + 99


def test_a_range_without_room_for_workers_is_refused():
    (first,) = free_ports(HOST, 1)
    with pytest.raises(InputError, match="too few free ports for 2 services and 24 workers"):
        assign(["one", "two"], HOST, PortRange(first=min(first, 65000), last=min(first, 65000) + 10), num_cpus=4)


def test_without_a_range_ports_are_free_and_distinct():
    found, workers = assign("abcdef", HOST, None, num_cpus=4)
    assert len(set(found.values())) == 6
    assert workers is None
