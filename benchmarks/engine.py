"""The training engine against what a user would otherwise take, and against itself on more workers.

python benchmarks/engine.py [--rounds N]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from pydantic import TypeAdapter

from benchmarks._report import ROOT, Row, compare, rounds, write
from benchmarks._startup import started
from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.stages.config import build_stage
from e2llm_core.stages.table import AnyPlan
from e2llm_core.tasks.corpus.dialogues import corpus_dialogue
from storage.labels import SEED_VII
from storage.signal import SEED_CHANNELS
from storage.store import RecordingInfo, Trial, create_store

VOCABULARY = 151_936
"""Qwen's."""
SFREQ = 256.0
SMALL_TOWER = {"dim": 64, "depth": 2, "num_heads": 4, "temporal_dim": 64, "temporal_depth": 2, "temporal_heads": 4}
WARM_UP = 2
"""Steps of a run that do not count."""
NO_WARM_UP = 0
"""Rounds: every run is a process of its own and warms up itself."""


def make_store(folder: Path, num_trials: int) -> None:
    """Noise of four subjects, 30 channels, trials of 20 s."""
    store = create_store(folder, dataset="noise", label_set=SEED_VII)
    length, channels = int(20 * SFREQ), SEED_CHANNELS[:30]
    for subject in range(4):
        rng = np.random.default_rng(subject)
        labels = [SEED_VII.names[number] for number in rng.integers(7, size=num_trials)]
        trials = tuple(
            Trial(trial=n, position=n, clip=n, start=(n - 1) * length, stop=n * length, label=label)
            for n, label in enumerate(labels, 1)
        )
        info = RecordingInfo(
            recording_id=f"sub-{subject}",
            subject=f"s{subject}",
            session="1",
            channels=channels,
            sfreq_hz=SFREQ,
            n_times=num_trials * length,
            source_sha256="0" * 64,
            ingest_digest=f"{subject}" * 64,
            provenance={},
            trials=trials,
        )
        store.write_recording(info, rng.normal(0, 20, (len(channels), num_trials * length)))


class Bench:
    """Models of every stage, untrained, and runs on them.

    Parameters
    ----------
    root : Path
        Folder to make.
    tower : mapping
        Settings of EEGPT and of the temporal transformer on top of it.
    num_trials : int
        Of each of four subjects, 20 s each.
    """

    def __init__(self, root: Path, tower: Mapping[str, int], num_trials: int = 20) -> None:
        self.root, self._turn, self._tower = root, count(), dict(tower)
        root.mkdir()
        make_store(root / "store.zarr", num_trials)
        texts = [
            d.user + d.answer + (d.thinking or "") for d in (corpus_dialogue(n, SEED_VII.names, 0) for n in range(500))
        ]
        tokenizer = train_tokenizer(texts, 640)
        torch.manual_seed(0)
        llm = tiny_llm(VOCABULARY, 128, 4, 4, 2, 384, tokenizer=tokenizer)
        llm.save_pretrained(root / "llm")
        tokenizer.save_pretrained(root / "llm")
        for name in ("stage1", "stage2"):
            self._untrained(name)

    def plan(self, name: str, **train: Any) -> dict[str, Any]:
        """The plan of a stage."""
        windows = {"window_seconds": 4.0, "stride_seconds": 4.0}
        windows |= {"normalisation": "session-whitening", "adaptation": "transductive-unlabelled"}
        data = {"store": str(self.root / "store.zarr"), "windows": windows}
        data["split"] = {"train": 2, "validation": 1, "test": 1}
        model: dict[str, dict[str, Any]] = {
            "stage1": {"start": "fourier", **self._tower},
            "stage2": {"tower": str(self.root / "stage1/model"), "llm": str(self.root / "llm")},
            "stage3": {"start": str(self.root / "stage2/model")},
        }
        common = {"global_batch": 32, "micro_batch": 16, "log_every": 1, "validate_every": 10_000, "max_steps": 8}
        return {"data": data, "model": model[name], "train": common | {"checkpoint_every": 10_000} | train}

    def _untrained(self, name: str) -> None:
        stage = build_stage(TypeAdapter(AnyPlan).validate_python(self.plan(name)))
        torch.manual_seed(0)
        model, groups = stage.build()
        trained = {id(parameter) for group in groups for parameter in group.parameters}
        state = {key: value.detach() for key, value in model.named_parameters() if id(value) in trained}
        folder = self.root / name / "model"
        folder.mkdir(parents=True)
        stage.export(model, state, folder)

    def train(self, plan: dict[str, Any], way: str = "ours", workers: int = 1) -> dict[str, Any]:
        """What `_training.py` measured in a run of its own."""
        run = self.root / f"run-{next(self._turn)}"
        job = self.root / f"{run.name}.json"
        job.write_text(json.dumps({"plan": plan, "run": str(run), "way": way}))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
        command = [*launcher, str(ROOT / "benchmarks" / "_training.py"), str(job)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        found: dict[str, Any] = json.loads((run / "measured.json").read_text())
        return found


def tokens_per_second(measured: dict[str, Any]) -> float:
    """Of the counted steps: the last one holds the end of the run, too."""
    steps = measured["steps"][WARM_UP:-1]
    return float(sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps))


def against_plain(bench: Bench, number: int) -> list[Row]:
    """Stage 3 with LoRA at Qwen's vocabulary."""
    plan, peaks = bench.plan("stage3", max_steps=5, global_batch=16), dict[str, list[float]]()

    def way(name: str) -> Callable[[], float]:
        def measure() -> float:
            found = bench.train(plan, name)
            peaks.setdefault(name, []).append(found["peak"] / 2**20)
            return tokens_per_second(found)

        return measure

    speeds = rounds({"ours": way("ours"), "plain": way("plain")}, number, NO_WARM_UP)
    other = "padded, full logits"
    named = {"ours": speeds["ours"], other: speeds["plain"]}
    memory = {"ours": peaks["ours"], other: peaks["plain"]}
    return [
        compare("stage 3, LoRA, vocabulary 151,936", "tokens/s", named, "ours", other, unit="tokens/s"),
        compare("the same: peak memory above the model", "memory", memory, "ours", other, unit="MiB", better="lower"),
    ]


def two_workers(bench: Bench, number: int) -> list[Row]:
    """Weak scaling: twice the samples a step on twice the workers; 2 is the limit."""
    pairs = {name: (workers, bench.plan("stage3", global_batch=32 * workers)) for name, workers in _WORKERS.items()}

    def with_workers(name: str) -> Callable[[], float]:
        workers, plan = pairs[name]
        return lambda: workers * tokens_per_second(bench.train(plan, workers=workers))

    speeds = rounds({name: with_workers(name) for name in pairs}, number, NO_WARM_UP)
    return [compare("stage 3, two ZeRO-3 workers", "tokens/s", speeds, "two workers", "one worker", unit="tokens/s")]


_WORKERS = {"two workers": 2, "one worker": 1}


def checkpoint_stall(bench: Bench, number: int) -> list[Row]:
    """Full fine-tuning with a checkpoint at step 5 of 10, its cost spread over 50 steps."""
    stalls = []
    for _ in range(number):
        steps = bench.train(bench.plan("stage3", max_steps=10, checkpoint_every=5, lora=None))["steps"]
        times = [step["seconds"] for step in steps[WARM_UP:]]
        usual = median(times[:2] + times[4:7])
        extra = sum(times[2:4]) - 2 * usual
        stalls.append(100 * max(0.0, extra) / (50 * usual))
    rows = {"ours": stalls, "limit of 2 %": [2.0] * number}
    case = "checkpoint stall at one in 50 steps"
    return [compare(case, "share of step time", rows, "ours", "limit of 2 %", unit="%", better="lower")]


def startup(bench: Bench, number: int) -> tuple[Row, dict[str, float]]:
    """From `ray job submit` to the first step; also the median of each part, in seconds."""
    ours, empty = started(bench.plan("stage3", max_steps=1), bench.root / "startup", number)
    seconds = {"ours": [parts["in all"] for parts in ours], EMPTY: empty}
    row = compare("ray job submit to first step", "seconds", seconds, "ours", EMPTY, unit="s", better="lower")
    return row, {name: round(median(parts[name] for parts in ours), 2) for name in ours[0]}


EMPTY = "empty Ray Train job, same imports"


def main() -> None:
    """Measure, print and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    number = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "small", SMALL_TOWER)
        rows = [*against_plain(bench, number), *two_workers(bench, number), *checkpoint_stall(bench, number)]
        row, parts = startup(bench, number)
    what = (
        "LLM: 4 layers of width 128; tower: 2 + 2 layers of width 64; "
        "32 samples a step; 8 steps, 5 of them counted (against the padded way: 16 samples, 5 steps, 2 counted)"
    )
    write("engine", [*rows, row], {"what": what, "vocabulary": VOCABULARY, "seconds_to_first_step": parts})
    for name, seconds in parts.items():
        print(f"{seconds:8.2f} s  {name}")


if __name__ == "__main__":
    main()
