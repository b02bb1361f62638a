"""Plans: what must hold for every size, stage and number of GPUs, and numbers that can be checked by hand."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.planning.gpus import GPUS, gpu_of
from cluster.planning.memory import HOST_ITEMS, ITEMS, checkpoint_bytes, memory
from cluster.planning.plan import fastest, plan_job, usable_bytes, usable_host_bytes
from cluster.planning.step_time import NVME_RATE, flops_per_sample, step_time
from e2llm_core.sizes.llm import LLM_SIZES
from e2llm_core.sizes.workload import Workload
from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS
from e2llm_core.tasks.registry import trained_tasks
from jobs.load import load_spec
from jobs.spec import SPECS
from storage.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[3]
H200 = GPUS["h200"]
ATTENTION = "[q_proj, k_proj, v_proj, o_proj]"


def work(stage: str = "stage3", *overrides: str, llm: str = "Qwen/Qwen3-8B") -> Workload:
    given_llm = [f"model.llm={llm}"] if stage in ("stage2", "stage3") else []
    spec = load_spec(REPOSITORY / f"jobs/{stage}.yaml", [*given_llm, *overrides], SPECS).spec
    return spec.workload()  # type: ignore[arg-type]


def changed(base: Workload, **train: object) -> Workload:
    return base.model_copy(update={"train": base.train.model_copy(update=train)})


def full(llm: str) -> Workload:
    return work("stage3", "train.lora=null", llm=llm)


WORKS = {
    "stage1": work("stage1"),
    "stage2": work("stage2"),
    "lora": work(),
    "full": full("Qwen/Qwen3-8B"),
    "small": work(llm="Qwen/Qwen2.5-0.5B"),
    "mixture": work("stage3", f"train.lora.target_modules={ATTENTION}", llm="Qwen/Qwen3-235B-A22B"),
    "tiny": work("tiny-llm"),
}
works = st.sampled_from(sorted(WORKS)).map(WORKS.__getitem__)
trains = st.fixed_dictionaries(
    {
        "micro_batch": st.integers(1, 64),
        "micro_tokens": st.integers(16, 20_000),
        "zero_stage": st.sampled_from([0, 1, 2, 3]),
        "precision": st.sampled_from(["fp32", "bf16"]),
        "offload": st.sampled_from(["none", "cpu"]),
        "activation_checkpointing": st.booleans(),
    }
)
many = st.integers(1, 2048)


@given(works, trains, many)
def test_items_sum_to_the_total_and_none_is_negative(base, train, gpus):
    found = memory(changed(base, **train), gpus)
    assert tuple(found.items) == ITEMS
    assert min(found.items.values()) >= 0
    assert sum(found.items.values()) == found.total
    assert tuple(found.host) == HOST_ITEMS
    assert min(found.host.values()) >= 0
    assert sum(found.host.values()) == found.host_total
    assert found.items[found.largest] == max(found.items.values())


@given(works, trains, st.integers(2, 1024), st.integers(1, 1024))
def test_more_gpus_never_need_more_memory_each(base, train, gpus, more):
    """From two on: a single one gathers nothing."""
    base = changed(base, **train)
    assert memory(base, gpus + more).total <= memory(base, gpus).total


@given(works, trains, many)
def test_recomputing_activations_never_needs_more(base, train, gpus):
    base = changed(base, **train)
    recomputed, kept = (memory(changed(base, activation_checkpointing=value), gpus).total for value in (True, False))
    assert recomputed <= kept


@given(works, trains, st.integers(2, 2048), st.sampled_from(["cpu", "nvme"]))
def test_offload_moves_what_it_frees(base, train, gpus, place):
    """ZeRO-3 also moves the parameters; from two GPUs on, as a single one then gathers what it otherwise has.

    ZeRO-1 in bf16 has 6 bytes of gradients per number without offload, and with it 4 and the bucket that all others
    have: DeepSpeed runs another optimizer.
    """
    kept, moved = (memory(changed(base, **train | {"offload": where}), gpus) for where in ("none", place))
    assert moved.items["optimizer"] == moved.items["gradients"] == 0
    assert [name for name, size in kept.host.items() if size] == ["checkpoint copy"]
    assert moved.host["optimizer"] == kept.items["optimizer"]
    summed_whole = train["zero_stage"] == 1 and train["precision"] == "bf16"
    assert moved.host["gradients"] == kept.items["gradients"] * 4 // (6 if summed_whole else 4)
    parameters = kept.items["parameters"] if train["zero_stage"] == 3 else 0
    assert (moved.host["parameters"], moved.nvme) == ((parameters, 0) if place == "cpu" else (0, parameters))
    bucket = moved.items["buffers"] if summed_whole else 0
    assert moved.total <= kept.total + bucket


@given(works, trains, st.integers(1, 32), st.integers(1, 32))
def test_larger_micro_batches_never_need_less(base, train, gpus, size):
    base = changed(base, **train)
    sizes = [memory(changed(base, micro_batch=n, micro_tokens=100_000), gpus).total for n in (size, size + 1)]
    assert sizes[0] <= sizes[1]


@given(st.sampled_from(sorted(LLM_SIZES)), many)
@settings(max_examples=30)
def test_adapters_need_less_than_all_weights(llm, gpus):
    """Of what training adds to the model; a float32 adapter's copy of its input can cost more activations."""
    adapters = work("stage3", f"train.lora.target_modules={ATTENTION}", llm=llm)
    for name in ("gradients", "optimizer"):
        small, large = (memory(changed(w, offload="none"), gpus).items[name] for w in (adapters, full(llm)))
        assert small < large
    assert checkpoint_bytes(adapters) < checkpoint_bytes(full(llm))


@given(works, trains, many, st.sampled_from(sorted(GPUS)))
def test_time_is_made_of_its_parts(base, train, gpus, gpu):
    found = step_time(changed(base, **train), gpus, GPUS[gpu])
    assert found.seconds >= max(found.compute, found.memory, found.interconnect)
    assert 0 < found.mfu < 0.56
    assert found.passes >= 1
    assert found.interconnect == 0 or gpus > 1 or train["offload"] != "none"


def test_overrides_that_are_recommended_are_valid():
    base = work("stage3", "train.offload=nvme", "train.nvme_path=/disk", "train.lora=null", llm="Qwen/Qwen3-32B")
    for gpus, gpu in ((1, "h200"), (8, "h200"), (8, "a100-40")):
        plan = plan_job(base, gpus, GPUS[gpu])
        found = plan.fastest or plan.smallest
        assert found is not None
        again = work(
            "stage3",
            "train.offload=nvme",
            "train.nvme_path=/disk",
            "train.lora=null",
            *found.overrides,
            llm="Qwen/Qwen3-32B",
        )
        assert memory(again, found.gpus).total == found.memory_bytes


@given(works, st.sampled_from([2, 8, 32]), st.sampled_from(sorted(GPUS)))
@settings(max_examples=30)
def test_what_is_recommended_fits_and_is_not_slower(base, gpus, gpu):
    kind = GPUS[gpu]
    plan, best = plan_job(base, gpus, kind), fastest(base, gpus, kind)
    assert plan.fastest == best
    if plan.fits:
        assert best is not None
        assert best.step_seconds <= plan.step_seconds + 1e-6
    if best is not None:
        assert best.memory_bytes <= usable_bytes(kind)
        assert plan.smallest is None


def test_states_of_full_fine_tuning_by_hand():
    """bf16 weights, float32 gradients, copy and two moments: 18 bytes per parameter over all GPUs."""
    items = memory(full("Qwen/Qwen3-8B"), 8).items
    states = sum(items[name] for name in ("parameters", "gradients", "optimizer"))
    assert states == pytest.approx(8.19e9 * 18 / 8, rel=0.02)


def test_zero_1_in_bf16_keeps_a_whole_float32_sum_beside_bf16_gradients():
    """DeepSpeed's BF16_Optimizer, which offload replaces: 6 bytes per number however many GPUs, and no bucket."""
    base = changed(full("Qwen/Qwen3-8B"), zero_stage=1, precision="bf16")
    for gpus in (1, 8):
        found = memory(base, gpus)
        assert found.items["gradients"] == 6 * base.trainable
        assert found.items["buffers"] == 0
    assert found.items["optimizer step"] > 6 * base.trainable, "of the sum: joined in float32 and sent in bf16"
    for other in ({"precision": "fp32"}, {"zero_stage": 2}):
        assert memory(changed(base, **other), 1).items["gradients"] == 4 * base.trainable
        assert memory(changed(base, **other), 1).items["buffers"] > 0
    offloaded = memory(changed(base, offload="cpu"), 1)
    assert offloaded.host["gradients"] == 4 * base.trainable
    assert offloaded.items["buffers"] > 0


def test_arithmetic_of_a_token_by_hand():
    """Full fine-tuning costs six operations per weight and token, where every token is supervised."""
    base = full("Qwen/Qwen3-8B")
    sample = base.sample.model_copy(update={"supervised": base.sample.tokens})
    forward, backward = flops_per_sample(base.model_copy(update={"sample": sample, "tower": None}))
    weights = 8.19e9 - 0.62e9  # the embedding is looked up
    assert forward + backward == pytest.approx(6 * weights * sample.tokens, rel=0.01)


def test_frozen_weights_have_no_gradient_arithmetic():
    for llm in LLM_SIZES:
        forward, backward = flops_per_sample(work(llm=llm).model_copy(update={"tower": None}))
        assert forward < backward < 1.2 * forward


def test_the_shipped_stages_fit_where_they_say():
    for stage in ("stage1", "stage2", "stage3"):
        assert plan_job(work(stage), 4, H200).fits, stage


def test_samples_are_as_long_as_the_dialogues():
    """The planner's constants against the dialogues that the stages draw."""
    names = ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise")
    found = {name: [] for name in CORPUS_FORMS}
    for name, form in CORPUS_FORMS.items():
        for number in range(1500):
            dialogue = form.in_words(names, np.random.default_rng(number))
            question = re.sub(r"\[[^\]]*\]|<eeg>", "", dialogue.user)
            found[name].append((len(question), len(dialogue.answer) + len(dialogue.thinking or "")))
    assert set(trained_tasks()) <= set(CORPUS_FORMS)
    for name, lengths in found.items():
        means = [sum(pair[place] for pair in lengths) / len(lengths) for place in (0, 1)]
        text = CORPUS_FORMS[name].text
        assert (text.question, text.answer) == pytest.approx(means, rel=0.1), name


def test_rows_hold_what_the_stages_pack():
    base = changed(work(), micro_batch=64, micro_tokens=1024, global_batch=128)
    tokens = base.sample.tokens
    assert base.samples_per_pass(1) == 1024 / tokens
    assert base.samples_per_pass(64) == 2
    assert base.samples_per_pass(1000) == 1
    assert changed(base, micro_tokens=16).samples_per_pass(1) == 1
    assert changed(base, micro_batch=3).samples_per_pass(1) == 3


def test_main_memory_is_limited_too():
    """All states of a 32B model offloaded from one GPU: 721 GB, and 394 GB for the checkpoint's copy."""
    base = changed(full("Qwen/Qwen3-32B"), offload="cpu", activation_checkpointing=True, micro_batch=1)
    assert memory(base, 1).total < usable_bytes(H200)
    assert not plan_job(base, 1, H200).fits
    assert plan_job(base, 8, H200).fits


def on_nvme(base: Workload) -> Workload:
    return changed(base, offload="nvme", nvme_path=Path("/disk"), activation_checkpointing=True, micro_batch=1)


def test_nvme_does_not_hold_the_optimizer():
    """72.8 billion numbers on 8 GPUs: 12 + 12 + 4 + 4 bytes of each in main memory, 2 on NVMe."""
    base = on_nvme(full("Qwen/Qwen2.5-72B"))
    found = memory(base, 8)
    assert found.host["optimizer"] == pytest.approx(72.8e9 / 8 * 12, rel=0.01)
    assert found.host_total == pytest.approx(72.8e9 / 8 * 32, rel=0.01)
    assert found.nvme == pytest.approx(72.8e9 / 8 * 2, rel=0.01)
    kind = GPUS["a100-40"]
    assert found.total < usable_bytes(kind)
    assert found.host["optimizer"] < usable_host_bytes(kind) < found.host_total
    assert not plan_job(base, 8, kind).fits
    assert plan_job(base, 32, kind).fits


def test_the_checkpoint_copy_can_be_what_does_not_fit():
    """All of a 32B model on one GPU that would hold its states: 394 GB are copied, 243 can be used."""
    sheet = replace(H200.sheet, memory_bytes=10 * H200.sheet.memory_bytes)
    kind = replace(H200, sheet=sheet)
    base = full("Qwen/Qwen3-32B")
    plan = plan_job(base, 1, kind)
    assert plan.memory_bytes < plan.usable_bytes
    assert plan.host_bytes == plan.memory.host["checkpoint copy"] > plan.usable_host_bytes
    assert not plan.fits
    assert plan_job(base, 1, replace(kind, host_memory=2 * kind.host_memory)).fits


@given(works, trains, many)
def test_what_all_workers_copy_is_the_checkpoint(base, train, gpus):
    """Only the first one's has the values; partitions are rounded up."""
    base = changed(base, **train)
    whole, copy = checkpoint_bytes(base), memory(base, gpus).host["checkpoint copy"]
    tensors = sum(tensor.count for part in base.parts for tensor in part.tensors)
    if train["zero_stage"] == 3:
        assert whole <= gpus * copy <= whole + 12 * gpus * tensors
    else:
        assert copy <= whole <= gpus * copy
    assert memory(base, 1).host["checkpoint copy"] == whole


def test_nvme_is_charged_for_values_alone():
    """A step on NVMe is slower by the time to write the new values once; the optimizer's state does not move."""
    base = on_nvme(full("Qwen/Qwen3-8B"))
    slow, fast = (step_time(changed(base, offload=place), 8, H200).optimizer for place in ("nvme", "cpu"))
    assert slow - fast == pytest.approx(8.19e9 / 8 * 2 / NVME_RATE, rel=0.01)


def test_gpus_are_named():
    with pytest.raises(InputError, match=r"^--gpu rtx: unknown GPU\. Name one of a100-40"):
        gpu_of("rtx")
