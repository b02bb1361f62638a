import time

import psutil
import pytest
import torch

from e2llm_core.training import meter as module
from e2llm_core.training.gpus import GPUS
from e2llm_core.training.meter import StepMeter, covered, peak_flops, peak_memory_bytes
from e2llm_core.training.world import World

CUDA = torch.device("cuda", 0)


class Clock:
    """Time that passes only when told to."""

    def __init__(self, monkeypatch):
        self.now = 50.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def step(self, meter, seconds, samples=4.0, tokens=100.0, loader_wait=0.0, flops=None):
        self.now += loader_wait
        meter.begin()
        self.now += seconds
        meter.end(samples, tokens, loader_wait, flops)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Ranks(World):
    """Rank 0 of several; the others' rows of a table are given."""

    others: tuple[tuple[float, ...], ...]

    def sum(self, values):
        mine = list(values)
        width = len(mine) // self.size
        return mine[:width] + [value for rank in self.others for value in rank]


def ranks(*others):
    world = Ranks(rank=0, size=1 + len(others))
    object.__setattr__(world, "others", others)
    return world


def test_a_row_averages_the_steps_since_the_last(clock):
    meter = StepMeter(World())
    clock.step(meter, 1.0, tokens=60)
    clock.step(meter, 2.0, tokens=120, loader_wait=1.0)
    row = meter.row()
    assert row["seconds_per_step"] == 2.0
    assert row["samples_per_second"] == 2.0
    assert row["tokens_per_second"] == 45.0
    assert row["loader_wait"] == 0.5
    assert row["loader_wait_share"] == 0.25
    clock.step(meter, 0.5)
    assert meter.row()["tokens_per_second"] == 200.0


def test_what_lies_between_steps_is_not_counted(clock):
    meter = StepMeter(World())
    clock.step(meter, 1.0)
    clock.now += 1000
    clock.step(meter, 1.0)
    assert meter.row()["seconds_per_step"] == 1.0


def test_a_row_without_steps_has_no_rates():
    assert set(StepMeter(World()).row()) == {"memory_gb"}


def test_ranks_are_added_up_and_the_slowest_sets_the_pace(clock):
    nan = float("nan")
    other = (2.0, 8.0, 4.0, 10.0, 300.0, nan, 3e9, nan)
    meter = StepMeter(ranks(other), sample_every=0)
    clock.step(meter, 3.0)
    clock.step(meter, 3.0)
    row = meter.row()
    assert row["seconds_per_step"] == 4.0
    assert row["samples_per_second"] == (8 + 10) / 8
    assert row["tokens_per_second"] == (200 + 300) / 8
    assert row["loader_wait_share"] == 0.5
    assert row["memory_gb"] == 3.0
    assert "mfu" not in row
    assert "communication_share" not in row


def test_mfu_is_the_share_of_all_ranks_peaks(clock, monkeypatch):
    monkeypatch.setattr(module, "peak_flops", lambda device, precision: 1e12)
    other = (1.0, 2.0, 0.0, 4.0, 100.0, 2e11, 0.0, 0.5)
    meter = StepMeter(ranks(other), sample_every=0)
    clock.step(meter, 2.0, flops=1e11 * 6)
    meter._share = 0.25
    row = meter.row()
    assert row["mfu"] == pytest.approx((6e11 + 2e11) / 2.0 / 2e12)
    assert row["communication_share"] == 0.375


@pytest.mark.parametrize(("peak", "flops"), [(None, 1e9), (1e12, None)])
def test_mfu_is_absent_rather_than_guessed(clock, monkeypatch, peak, flops):
    monkeypatch.setattr(module, "peak_flops", lambda device, precision: peak)
    meter = StepMeter(World())
    clock.step(meter, 1.0, flops=1e9)
    clock.step(meter, 1.0, flops=flops)
    assert "mfu" not in meter.row()


@pytest.mark.parametrize(
    ("name", "precision", "tf32", "peak"),
    [
        ("NVIDIA H200", "bf16", "highest", GPUS["h200"].bf16_flops),
        ("NVIDIA H200", "fp32", "highest", GPUS["h200"].fp32_flops),
        ("NVIDIA A100-SXM4-80GB", "fp32", "high", 156e12),
        ("Tesla V100-SXM2-32GB", "bf16", "highest", None),
        ("Tesla V100-SXM2-32GB", "fp32", "high", 15.7e12),
        ("Unheard-of", "bf16", "highest", None),
    ],
)
def test_peak_of_a_device(monkeypatch, name, precision, tf32, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: tf32)
    assert peak_flops(CUDA, precision) == peak


def test_a_cpu_has_no_peak_and_its_memory_is_what_the_process_held():
    assert peak_flops(torch.device("cpu"), "fp32") is None
    held = torch.ones(60_000_000)
    now = psutil.Process().memory_info().rss
    assert peak_memory_bytes(torch.device("cpu")) >= now - (1 << 20)
    assert now > held.nbytes


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(0, 4)], 4), ([(5, 9), (0, 4)], 8), ([(0, 4), (2, 6), (3, 5)], 6), ([(0, 9), (1, 2), (8, 10)], 10)],
)
def test_covered(intervals, length):
    assert covered(intervals) == length


class Event:
    def __init__(self, name, start, duration):
        self._values = name, start, duration

    def name(self):
        return self._values[0]

    def start_ns(self):
        return self._values[1]

    def duration_ns(self):
        return self._values[2]


class Recorded:
    """A profiler that has seen two overlapping collectives of 0.3 s in all, and a product."""

    def __init__(self, *names):
        spans = [(0, 200_000_000), (100_000_000, 200_000_000)]
        self.kineto_results = self
        self.profiler = self
        self._events = [Event(name, *span) for name, span in zip(names, spans, strict=False)]

    def stop(self):
        pass

    def events(self):
        return [*self._events, *([Event("gemm", 0, 10**9)] if self._events else [])]


@pytest.mark.parametrize("name", ["gloo:all_gather", "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgs)"])
def test_timed_steps_give_the_share_and_are_left_out_of_the_rates(clock, monkeypatch, name):
    started = []
    monkeypatch.setattr(module, "_start_profiler", lambda device: started.append(1) or Recorded(name, name))
    meter = StepMeter(ranks((3.0, 3.0, 0.0, 4.0, 100.0, 0.0, 0.0, 0.1)), sample_every=2)
    for number in range(1, 7):
        clock.step(meter, 1.0 if number in (1, 2, 4, 6) else 3.0)
        assert len(started) == {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2}[number]
    row = meter.row()
    assert row["seconds_per_step"] == 1.0
    assert row["communication_share"] == pytest.approx(0.1)


def test_nothing_recorded_is_no_share(clock, monkeypatch):
    monkeypatch.setattr(module, "_start_profiler", lambda device: Recorded())
    meter = StepMeter(ranks((2.0, 3.0, 0.0, 4.0, 100.0, 0.0, 0.0, float("nan"))))
    for _ in range(4):
        clock.step(meter, 1.0)
    assert "communication_share" not in meter.row()


def test_one_worker_times_no_collectives(monkeypatch):
    monkeypatch.setattr(module, "_start_profiler", lambda device: pytest.fail("timed"))
    meter = StepMeter(World(), sample_every=1)
    for _ in range(5):
        meter.begin()
        meter.end(1, 1, 0.0)


def test_a_profiler_in_use_is_left_alone():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        assert module._start_profiler(torch.device("cpu")) is None
        torch.ones(2) + 1
    assert any(event.name == "aten::add" for event in profiler.events())
