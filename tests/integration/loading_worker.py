"""One process of a loading test: loads checkpoints under ZeRO-3, and writes what it saw."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import torch
from transformers import AutoModelForCausalLM

from e2llm_core.llm.embedding_rows import enlarge
from e2llm_core.model.model_io import load_llm
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine, start_distributed, stop_distributed, zero3_loading
from e2llm_core.training.offload import check_offload
from e2llm_core.training.stage import ParameterGroup
from e2llm_core.training.world import World
from storage.errors import InputError

CONFIG = TrainConfig(global_batch=2, micro_batch=1, max_steps=2, learning_rate=1e-3)


def equal(folder: str, dtype: str, changes: dict[str, Any], rows: int, world: World) -> dict[str, Any]:
    """Compare a partitioned model with plain `from_pretrained`: parameters, buffers, a forward pass, and two steps.

    With `rows` embedding rows, which are added to both where the checkpoint has fewer.
    """
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    if rows > plain.config.vocab_size:
        enlarge(plain, rows)
    precision = "bf16" if dtype == "bfloat16" else "fp32"
    config = TrainConfig(**CONFIG.model_dump(exclude_unset=True) | {"precision": precision} | changes)
    check_offload(config)
    with zero3_loading(config, world):
        model = load_llm(folder, rows=rows, dtype=dtype)
    found = dict(model.named_parameters())
    partitioned = all(parameter.numel() == 0 for parameter in found.values())
    different = []
    for name, parameter in plain.named_parameters():
        with deepspeed.zero.GatheredParameters([found[name]], modifier_rank=None):
            if parameter.dtype != found[name].dtype or not torch.equal(parameter, found[name]):
                different.append(name)
    buffers = dict(model.named_buffers())
    different += [name for name, buffer in plain.named_buffers() if not torch.equal(buffer, buffers[name])]
    different += sorted(set(found) ^ {name for name, _ in plain.named_parameters()})
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    generation = model.generation_config.eos_token_id

    engine = Engine(model, [ParameterGroup("llm", list(model.parameters()))], config, world)
    torch.manual_seed(world.rank)
    ids = torch.randint(0, model.config.vocab_size, (1, 12))
    losses = []
    with torch.no_grad():
        expected, seen = plain.eval()(ids).logits, engine.forward_model()(ids).logits
    for _ in range(2):
        loss = engine.forward_model()(input_ids=ids, labels=ids).loss
        losses.append(world.sum([float(loss.detach())])[0])
        engine.backward(loss, world.size, last=True)
        engine.step()
    return {
        "different": different,
        "partitioned": partitioned,
        "tied": tied,
        "generation": generation,
        "name": model.name_or_path,
        "logits": float((expected - seen).abs().max()),
        "losses": losses,
        "places": sorted({str(parameter.ds_tensor.final_location) for parameter in model.parameters()}),
        "leaves": sum(getattr(module, "_z3_leaf", False) for module in model.modules()),
    }


def refusal(folder: str, world: World) -> str:
    """What partitioned loading says to a checkpoint that is not whole."""
    with zero3_loading(CONFIG, world):
        try:
            load_llm(folder, dtype="float32")
        except InputError as error:
            return str(error)
    return "loaded"


def anonymous_bytes() -> int:
    """Memory of this process that is no page of a file; pages of mapped files can be dropped at any time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def peak_while(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run `work`; return the growth of this process's anonymous memory at its peak, in bytes, and the result."""
    samples, done = [anonymous_bytes()], threading.Event()

    def sample() -> None:
        while not done.is_set():
            samples.append(anonymous_bytes())
            time.sleep(0.002)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        result = work()
    finally:
        done.set()
        sampler.join()
    return max(samples) - samples[0], result


def memory(folder: str, small: str, world: World) -> dict[str, Any]:
    """Measure the memory that loading takes, ours and transformers'; a small model goes first, for the libraries."""
    peaks, kept = {}, []
    with zero3_loading(CONFIG, world):
        for name, load in {"ours": load_llm, "theirs": AutoModelForCausalLM.from_pretrained}.items():
            load(small, dtype="float32")
            peaks[name], model = peak_while(lambda load=load: load(folder, dtype="float32"))
            kept.append(model)
    parameters = list(kept[0].parameters())
    own = sum(parameter.ds_tensor.numel() * 4 for parameter in parameters)
    return {**peaks, "own": own, "largest": max(parameter.ds_numel * 4 for parameter in parameters)}


def main(place: str) -> None:
    """Do what the job at a place says, on this rank."""
    job = Path(place)
    world = World.from_environment()
    start_distributed(world)
    content = json.loads(job.read_text())
    if content["do"] == "equal":
        result = {name: equal(*case, world) for name, case in content["cases"].items()}
        if "refused" in content:
            result["refused"] = refusal(content["refused"], world)
    else:
        result = memory(content["folder"], content["small"], world)
    job.with_suffix(f".{world.rank}.out").write_text(json.dumps(result))
    stop_distributed()
