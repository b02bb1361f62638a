"""Stage 2 on features computed once, against the tower in every step.

python benchmarks/features.py [--rounds N]

How much it helps depends on what else a step computes: here a language model of small width under Qwen's vocabulary.
`by_arithmetic` gives the same ratio with real ones.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks._report import Row, compare, rounds, write
from benchmarks.engine import NO_WARM_UP, SMALL_TOWER, Bench, tokens_per_second
from cluster.batch.features import FeatureWriter, manifest_of
from cluster.batch.plans import FeaturesPlan
from e2llm_core.encoders.eegpt.config import EEGPTTower
from e2llm_core.encoders.eegpt.contract import PRETRAINED_CHANNELS
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.sizes.llm import llm_size
from e2llm_core.sizes.tower import tokens_per_segment
from e2llm_core.sizes.workload import text_tokens
from e2llm_core.tasks.registry import DESCRIPTION
from e2llm_core.tower.tower import EEGSettings, build_tower
from e2llm_core.training.flops import tower_flops
from storage.features import Features

EEGPT_LARGE: dict[str, int] = {}
"""The published encoder and the temporal transformer of `jobs/stage1.yaml`: the defaults."""
TOWERS = {"2 + 2 layers of width 64": SMALL_TOWER, "EEGPT large and its temporal transformer": EEGPT_LARGE}
TRIALS, WINDOW_SECONDS = 4, 4.0
BATCH = {"global_batch": 8, "micro_batch": 8, "max_steps": 5}


def compute_once(bench: Bench) -> Path:
    """Outputs of the tower for every window, computed as the `features` job does."""
    data = bench.plan("stage1")["data"]
    plan = FeaturesPlan(store=data["store"], windows=data["windows"], model=bench.root / "stage1/model")
    manifest, folder = manifest_of(plan), bench.root / "features"
    features = Features.create(folder, manifest)
    features.prepare()
    FeatureWriter(plan, folder, manifest)({"block": np.array(features.missing())})
    features.complete()
    return folder


def against_the_tower(bench: Bench, name: str, number: int) -> Row:
    """Stage 2, whose projector alone trains."""
    plan = bench.plan("stage2", **BATCH)
    cached = {**plan, "data": plan["data"] | {"features": str(compute_once(bench))}}
    ways = {"features computed once": cached, "tower in every step": plan}

    def trained(way: str) -> Callable[[], float]:
        return lambda: tokens_per_second(bench.train(ways[way]))

    speeds = rounds({way: trained(way) for way in ways}, number, NO_WARM_UP)
    return compare(f"stage 2, tower: {name}", "tokens/s", speeds, *ways, unit="tokens/s")


def by_arithmetic(llm: str) -> float:
    """FLOPs of a step of stage 2 with EEGPT large in it, over those without: 58 channels, windows of 4 s."""
    size = llm_size(llm)
    config = EEGPTTower()
    patches = config.contract.num_patches(WINDOW_SECONDS)
    question, answer = text_tokens(DESCRIPTION, tokens_per_segment(ProjectorConfig(), patches))
    # Forward, and backward to the projector: 2 + 2 FLOPs for each frozen weight that a token meets.
    language = 4 * (size.linear_parameters * (question + answer) + size.head_parameters * answer)
    channels = PRETRAINED_CHANNELS
    with torch.device("meta"):
        tower = build_tower(config, EEGSettings(channels, window_seconds=WINDOW_SECONDS))
    return round(1 + tower_flops(tower, backward=False) / language, 2)


def main() -> None:
    """Measure, print and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    number = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            against_the_tower(Bench(Path(folder) / str(place), tower, TRIALS), name, number)
            for place, (name, tower) in enumerate(TOWERS.items())
        ]
    what = (
        "LLM: 4 layers of width 128, vocabulary 151,936; 30 channels, windows of 4 s; 8 samples a step, 2 steps counted"
    )
    arithmetic = {llm: by_arithmetic(llm) for llm in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B")}
    write("features", rows, {"what": what, "by_arithmetic": arithmetic})
    print(f"by arithmetic, with EEGPT large: {arithmetic}")


if __name__ == "__main__":
    main()
