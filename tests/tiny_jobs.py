"""Every kind of job at the smallest size, as executable specs in a folder, and their submission to a cluster."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cluster.start.local import ClusterInfo

ROOT = Path(__file__).resolve().parents[1]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
CHAIN = ("ingest", "tiny-llm", "stage1", "stage2", "corpus", "stage3", "features", "evaluate", "score")
"""Kinds of jobs in an order in which each finds what it needs."""
STEPS = 12
TRAIN = {
    "max_steps": STEPS,
    "global_batch": 8,
    "micro_batch": 4,
    "log_every": 1,
    "checkpoint_every": 3,
    "validate_every": STEPS,
}
_SHEBANG = "#!/usr/bin/env -S python -m jobs\n"
_LLM = {"vocab_size": 400, "hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate": 32}
_TOWER = {"dim": 16, "depth": 1, "num_heads": 2, "temporal_dim": 32, "temporal_depth": 1, "temporal_heads": 2}
_LABELS = {"name": "SEED-VII", "names": ["disgust", "fear", "sad", "neutral", "happy", "anger", "surprise"]}


class TinyJobs:
    """Specs whose runs, store and twin lie in one folder.

    Parameters
    ----------
    folder : Path
        Seen by all nodes.
    workers : int
        Of each training job.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self._workers = workers

    def run(self, name: str) -> Path:
        """Return the run folder of a job."""
        return self.folder / name

    def write(self, kind: str, name: str | None = None, **changes: Any) -> Path:
        """Write the spec of a kind of job, for a run of the given name."""
        name = name or kind
        content = {"kind": kind, "run": str(self.run(name)), **self._contents(kind), **changes}
        path = self.folder / f"{name}.yaml"
        path.write_text(_SHEBANG + yaml.safe_dump(content))
        path.chmod(0o755)
        return path

    def _contents(self, kind: str) -> dict[str, Any]:
        store, twin = str(self.folder / "store.zarr"), str(self.folder / "twin")
        windows = {"channels": ["FP1", "FP2", "C3", "C4", "O1", "O2"]}
        split = {"train": 2, "validation": 1, "test": 1, "reserved": 1}
        data = {"store": store, "windows": windows, "split": split}
        resources = {"workers": self._workers, "cpus_per_worker": 0.5}
        training = {"train": TRAIN, "resources": resources}
        model, llm = str(self.run("stage1") / "model"), str(self.run("tiny-llm") / "model")
        composite = {"tower": model, "llm": llm, "projector": {"kind": "mlp"}}
        match kind:
            case "ingest":
                source = {"format": "seed-vii", "root": twin}
                made = {"num_subjects": 5, "clip_seconds": 8}
                return {"dataset": "tiny twin", "store": store, "source": source, "twin": made, "resources": resources}
            case "tiny-llm":
                return {"labels": _LABELS, "model": _LLM, **training}
            case "stage1":
                return {"data": data, "model": _TOWER, **training}
            case "stage2" | "stage3":
                start = {"stage2": composite, "stage3": {"start": str(self.run("stage2") / "model")}}
                return {"data": data, "model": start[kind], **training}
            case "corpus":
                return {"stage": str(self.write("stage3")), "block": 8, "resources": resources}
            case "features":
                return {"store": store, "windows": windows, "model": model, "block": 8, "resources": resources}
            case "evaluate":
                tested = {"model": str(self.run("stage3") / "model"), "tasks": ["IED", "EPC"], "num_pairs": 40}
                primary = {"task": "IED", "metric": "balanced_accuracy", "readout": "likelihood"}
                return {"data": data, **tested, "primary": primary, "resources": resources}
            case "score":
                tested = {"store": store, "model": str(self.run("stage3") / "model"), "split": split, "side": "test"}
                return {**tested, "resources": resources}
        raise ValueError(kind)


def submit(cluster: ClusterInfo, *words: str | Path, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """Type ``ray job submit`` with these words."""
    return subprocess.Popen(
        [*RAY, "job", "submit", *map(str, words)],
        env=cluster.env() | (env or {}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(job: "subprocess.Popen[str]") -> str:
    """Return the output of a job that must succeed."""
    output, _ = job.communicate()
    assert job.returncode == 0, output
    return output
