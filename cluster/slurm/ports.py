"""Ports of a Ray cluster in a SLURM job, derived from the job's number."""

import socket
from contextlib import suppress

from cluster.start.ports import free_ports

FIRST, LAST = 10240, 32767
"""Range of ports; it ends below those that Linux uses for outgoing connections."""
_PER_JOB = 16
_NUM_BLOCKS = (LAST + 1 - FIRST) // _PER_JOB


def block_of(job_id: int) -> range:
    """Return the ports of a job: another job has the same ones only when their numbers are 1408 apart."""
    first = FIRST + _PER_JOB * (job_id % _NUM_BLOCKS)
    return range(first, first + _PER_JOB)


def head_block(job_id: int) -> range:
    """Return the first block, from the job's own on, whose first port is free here: that of Ray's control service."""
    blocks = (block_of(job_id + shift) for shift in range(_NUM_BLOCKS))
    return next(block for block in blocks if is_free(block[0]))


def free_or_other(ports: range) -> list[int]:
    """Return the given ports; replace those in use on this node by free ones."""
    others = iter(free_ports("", len(ports)))
    return [port if is_free(port) else next(others) for port in ports]


def is_free(port: int) -> bool:
    """Whether nothing on this machine listens on a port."""
    with suppress(OSError), socket.socket() as tried:
        tried.bind(("", port))
        return True
    return False
