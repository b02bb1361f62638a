"""Ports that follow from a job's number, and what happens when one is taken."""

import socket

import pytest

from cluster.slurm.ports import FIRST, LAST, block_of, free_or_other, head_block
from cluster.start.ports import HEAD_NAMES


def test_jobs_that_follow_each_other_share_no_port():
    blocks = [block_of(job_id) for job_id in range(9_000, 9_000 + 1408)]
    ports = [port for block in blocks for port in block]
    assert len(ports) == len(set(ports))
    assert min(ports) >= FIRST
    assert max(ports) <= LAST
    assert all(len(block) >= len(HEAD_NAMES) for block in blocks)
    assert block_of(17) == block_of(17 + 1408)


@pytest.fixture
def taken():
    """A job whose first port somebody has."""
    with socket.socket() as other:
        for job_id in range(500, 600):
            try:
                other.bind(("127.0.0.1", block_of(job_id)[0]))
            except OSError:
                continue
            other.listen()
            yield job_id
            return


def test_a_head_whose_port_is_taken_moves_to_another_block(taken):
    assert head_block(taken)[0] > block_of(taken)[0]


def test_a_port_that_is_taken_on_one_node_is_replaced_there(taken):
    block = block_of(taken)
    found = free_or_other(block)
    assert found[0] not in block
    assert len(set(found)) == len(block)
