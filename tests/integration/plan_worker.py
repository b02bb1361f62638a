"""One process of the planner's check: trains stage 3's parts on made-up rows, writes down the bytes that it holds."""

import gc
import json
import re
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model

from e2llm_core.llm.packed_attention import attend_packed
from e2llm_core.llm.supervision import SupervisedHead, score_tokens
from e2llm_core.model.model_io import load_llm
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.tower.tower import EEGSettings, EEGTower
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine, start_distributed, stop_distributed, zero3_loading
from e2llm_core.training.stage import ParameterGroup
from e2llm_core.training.world import World


class Scored(torch.nn.Module):
    """A composite whose forward pass is the loss of one packed row; its projected EEG is added to the first tokens."""

    def __init__(self, model: E2LLMForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, labels: torch.Tensor, starts: torch.Tensor, longest: int) -> torch.Tensor:
        features = torch.zeros(1, self.model.tower.num_tokens, self.model.tower.dim)
        seen = self.model.project(features)
        embeds = self.model.get_input_embeddings()(ids)
        embeds = embeds + 0.0 * seen.sum().to(embeds.dtype)
        llm = self.model.llm
        rows = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}
        bare = llm.get_base_model() if hasattr(llm, "peft_config") else llm
        places = torch.arange(ids.shape[1]) % longest
        return score_tokens(bare, labels, inputs_embeds=embeds, position_ids=places[None], **rows)[0]


def build(job: dict[str, Any]) -> tuple[torch.nn.Module, list[ParameterGroup]]:
    """Compose the model as stages 2 and 3 do, inside DeepSpeed's loading context."""
    torch.manual_seed(0)
    llm = load_llm(job["llm"], dtype="bfloat16" if job["train"]["precision"] == "bf16" else "float32")
    SupervisedHead.install(llm)
    attend_packed(llm)
    if job["train"]["activation_checkpointing"]:
        llm.activation_checkpointing_enable({"use_reentrant": False})
    settings = {"encoder": job["encoder"], "temporal": job["temporal"]}
    tower = EEGTower.build(EEGSettings(channels=("CZ", "C3")), **settings)
    ids = {"eeg_token_id": 1, "eeg_start_id": 2, "eeg_end_id": 3}
    model = E2LLMForConditionalGeneration.assemble(tower, llm, ids)
    groups = [ParameterGroup("projector", list(model.projector.parameters()))]
    if job["lora"] is None:
        return Scored(model), [*groups, ParameterGroup("llm", list(llm.parameters()))]
    settings = LoraConfig(r=job["lora"]["r"], target_modules=job["lora"]["target_modules"], task_type="CAUSAL_LM")
    model.llm = get_peft_model(llm, settings)
    adapters = [value for name, value in model.llm.named_parameters() if "lora_" in name]
    return Scored(model), [*groups, ParameterGroup("lora", adapters)]


def held_bytes(engine: Engine) -> dict[str, int]:
    """Bytes of this rank's partitions, read from DeepSpeed's own tensors."""
    zero: Any = engine._engine.optimizer
    states = [value for state in zero.optimizer.state.values() for name, value in state.items() if name != "step"]
    kept = {
        "parameters": [parameter.ds_tensor for parameter in engine.model.parameters()],
        "gradients": [zero.grad_partitions_flat_buffer],
        "optimizer": [*zero.fp32_partitioned_groups_flat, *states],
    }
    return {name: sum(t.numel() * t.element_size() for t in tensors) for name, tensors in kept.items()}


def step_peak(engine: Engine, job: dict[str, Any]) -> int:
    """Peak resident bytes during one step, by the kernel's own high-water mark, which is set back before it."""
    ids = torch.randint(4, job["vocab"], (1, job["tokens"]))
    labels = ids.clone()
    labels[:, job["supervised"] + 1 :] = -100
    starts = torch.arange(0, job["tokens"] + 1, job["longest"], dtype=torch.int32)
    Path("/proc/self/clear_refs").write_text("5")
    total = engine.forward_model()(ids, labels, starts, job["longest"])
    engine.backward(total, float(job["supervised"]), last=True)
    del total
    engine.step()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status).group(1))  # type: ignore[union-attr]


def train(job: dict[str, Any], config: TrainConfig, world: World) -> tuple[Engine, int]:
    """Two steps; return the second one's peak."""
    with zero3_loading(config, world):
        model, groups = build(job)
    engine = Engine(model, groups, config, world)
    return engine, [step_peak(engine, job) for _ in range(2)][-1]


def main(job: dict[str, Any]) -> None:
    """Measure, and write the numbers of every rank.

    A tiny model goes first: libraries load code and make buffers when they are first used.
    """
    world, config = World.from_environment(), TrainConfig(**job["train"])
    start_distributed(world)
    train(job | job["warm"], config, world)
    gc.collect()
    before = psutil.Process().memory_info().rss
    engine, peak = train(job, config, world)
    found = held_bytes(engine) | {"peak": peak - before}
    Path(f"{job['found']}-{world.rank}.json").write_text(json.dumps(found))
    stop_distributed()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
