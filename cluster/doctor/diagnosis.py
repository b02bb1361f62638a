"""Derive findings from facts: what is fine, doubtful or wrong, and how to fix it."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cluster.doctor.node import NodeFacts

Verdict = Literal["well", "doubtful", "wrong"]

LEAST_FREE_BYTES, ENOUGH_FREE_BYTES = 1e9, 20e9
ENOUGH_OPEN_FILES = 4096
ENOUGH_STORAGE_RATE = 50e6
MOST_CLOCK_SECONDS = 1.0
ENOUGH_NETWORK_RATE = 1e9
"""Bytes per second. Ours: below it ZeRO-3 over several nodes waits longer than it computes, for any Qwen."""


class AllReduce(BaseModel):
    """Result of the all-reduce measurement.

    Attributes
    ----------
    ranks, nodes : int
        Over how many.
    backend : str
        ``nccl`` or ``gloo``.
    rate : float
        Bus bandwidth in bytes per second: 2 (n - 1) / n times the bytes, over the time (as nccl-tests count).
    problem : str
        Why there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranks: int
    nodes: int
    backend: str
    rate: float = 0
    problem: str = ""


class Finding(BaseModel):
    """One line of the report.

    Attributes
    ----------
    topic : str
        Subject of the check.
    verdict : str
        ``well``, ``doubtful`` or ``wrong``.
    found : str
        Result of the check.
    remedy : str
        How to fix it; empty when all is well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str
    verdict: Verdict
    found: str
    remedy: str = ""


def diagnose(nodes: Sequence[NodeFacts], place: str, reduced: AllReduce) -> list[Finding]:
    """Judge the facts.

    Parameters
    ----------
    nodes : sequence of NodeFacts
        At least one.
    place : str
        Folder or bucket for data and runs.
    reduced : AllReduce
        Measured over the same nodes.
    """
    return [
        *_versions(nodes),
        *_gpus(nodes),
        *_storage(nodes, place),
        *_disks(nodes),
        *_limits(nodes),
        *_clocks(nodes),
        _network(reduced),
    ]


def _versions(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    remedy = "Install the same on every node: `pip install -c constraints.txt -e .`, or one image for all."
    differ = False
    for package in sorted({name for node in nodes for name in node.versions}):
        found: dict[str, list[str]] = {}
        for node in nodes:
            found.setdefault(node.versions.get(package, "absent"), []).append(node.name)
        if len(found) > 1:
            differ = True
            said = "; ".join(f"{version} on {', '.join(names)}" for version, names in found.items())
            yield Finding(topic="versions", verdict="wrong", found=f"{package}: {said}", remedy=remedy)
    if not differ:
        python, torch = nodes[0].versions["python"], nodes[0].versions["torch"]
        yield Finding(topic="versions", verdict="well", found=f"equal everywhere; Python {python}, torch {torch}")


def _gpus(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    having = [node for node in nodes if node.gpus]
    kinds = sorted({gpu for node in having for gpu in node.gpus})
    total = sum(len(node.gpus) for node in having)
    yield Finding(topic="GPUs", verdict="well", found=f"{total}: {', '.join(kinds)}" if total else "none: CPU only")
    if without := [node.name for node in having if not node.torch_cuda]:
        remedy = "Install torch's build for the driver's CUDA."
        found = f"torch is a CPU build on {', '.join(without)}"
        yield Finding(topic="GPUs", verdict="wrong", found=found, remedy=remedy)
    if without := [node.name for node in having if not node.flash_attention]:
        found = f"flash-attn is not installed on {', '.join(without)}; SDPA is used"
        yield Finding(topic="GPUs", verdict="doubtful", found=found, remedy="Install the extra `gpu`, if you want it.")


def _storage(nodes: Sequence[NodeFacts], place: str) -> Iterator[Finding]:
    for node in nodes:
        there = node.storage
        if there.problem:
            found, remedy = f"{node.name}: {place}: {there.problem}", "Mount it, or give the node its credentials."
            yield Finding(topic="storage", verdict="wrong", found=found, remedy=remedy)
        elif not there.is_shared:
            found = f"{node.name}: {place} is not the one that the other nodes see"
            remedy = "Name a shared folder or an s3:// place in --storage, and use it for `store:` and `run:`."
            yield Finding(topic="storage", verdict="wrong", found=found, remedy=remedy)
    reached = [node.storage for node in nodes if not node.storage.problem]
    if not reached:
        return
    write, read = min(each.write_rate for each in reached), min(each.read_rate for each in reached)
    slow = min(write, read) < ENOUGH_STORAGE_RATE
    yield Finding(
        topic="storage",
        verdict="doubtful" if slow else "well",
        found=f"{place}: slowest node writes {write / 1e6:,.0f} MB/s, reads back {read / 1e6:,.0f} MB/s",
        remedy="Use storage nearer to the nodes; training reads every window once an epoch." if slow else "",
    )


def _disks(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    for what, free in (
        ("temporary files", {node.name: node.free_bytes for node in nodes}),
        ("data and runs", {node.name: node.storage.free_bytes for node in nodes}),
    ):
        known = {name: size for name, size in free.items() if size is not None}
        if not known:
            continue
        name, size = min(known.items(), key=lambda pair: pair[1])
        verdict: Verdict = "wrong" if size < LEAST_FREE_BYTES else "doubtful" if size < ENOUGH_FREE_BYTES else "well"
        yield Finding(
            topic="free disk",
            verdict=verdict,
            found=f"{what}: least on {name}, {size / 1e9:,.1f} GB",
            remedy=""
            if verdict == "well"
            else "Free space: checkpoints and Ray's logs go there (sizes: `e2llm plan`).",
        )


def _limits(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    node = min(nodes, key=lambda each: each.open_files)
    few = node.open_files < ENOUGH_OPEN_FILES
    yield Finding(
        topic="open files",
        verdict="doubtful" if few else "well",
        found=f"least on {node.name}: {node.open_files:,}",
        remedy="Run `ulimit -n 65536` before `ray start`." if few else "",
    )


def _clocks(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    node = max(nodes, key=lambda each: abs(each.clock_offset))
    off = abs(node.clock_offset) - node.clock_error > MOST_CLOCK_SECONDS
    yield Finding(
        topic="clocks",
        verdict="doubtful" if off else "well",
        found=f"furthest off: {node.name}, {node.clock_offset:+.2f} s (± {node.clock_error:.2f} s)",
        remedy="Synchronise the clocks (chrony): object stores refuse requests that are minutes off." if off else "",
    )


def _network(reduced: AllReduce) -> Finding:
    who = f"{reduced.backend} over {reduced.ranks} ranks on {reduced.nodes} node{'s' if reduced.nodes > 1 else ''}"
    if reduced.problem:
        remedy = "See that nodes reach each other on all ports; name the interface in NCCL_ or GLOO_SOCKET_IFNAME."
        return Finding(topic="all-reduce", verdict="wrong", found=f"{who}: {reduced.problem}", remedy=remedy)
    slow = reduced.nodes > 1 and reduced.rate < ENOUGH_NETWORK_RATE
    return Finding(
        topic="all-reduce",
        verdict="doubtful" if slow else "well",
        found=f"{who}: {reduced.rate / 1e9:.2f} GB/s bus bandwidth",
        remedy="Use the fast network: name its interface in NCCL_SOCKET_IFNAME." if slow else "",
    )
