"""From `sbatch` to the first step on two nodes, against `ray job submit` on a cluster that is up.

python benchmarks/slurm.py [--rounds N]

The nodes are namespaces of this machine with SLURM's own daemons (tests/slurm_daemons.py): root, slurm-wlm and munge.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks._report import ROOT, compare, write
from benchmarks._startup import WORKERS, Marks, between, first_step, marks_of, text
from cluster.start import local
from tests.slurm_daemons import SlurmCluster, obstacle, wait
from tests.training_faults import make_store, stage1

OTHER = "ray job submit, cluster up"


def by_sbatch(slurm: SlurmCluster, folder: Path, name: str) -> dict[str, float]:
    """Submit the spec of `folder`; seconds from mark to mark until the first step."""
    run, log = folder / "runs" / name, folder / f"{name}.log"
    environment = {"PATH": f"{Path(sys.executable).parent}:{slurm.environment['PATH']}", "E2LLM_ROOT": str(folder)}
    options = ["--parsable", "--nodes=2", "--oversubscribe", "--cpus-per-task=1", f"--output={log}"]
    command = ["sbatch", *options, "cluster/slurm/job.sbatch", str(folder / "spec.yaml"), f"run=runs/{name}"]
    begun = time.perf_counter()
    number = slurm.output(*command, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"})

    def state() -> str:
        return slurm.job(number)["JobState"]

    marks: Marks = {
        "SLURM starts the script": log.exists,
        "Ray on both nodes": lambda: "Ray on n1, n2" in text(log),
        **marks_of(run),
    }
    took = between(marks, begun, lambda: state() == "FAILED")
    wait(lambda: state() == "COMPLETED", 300)
    return took


def main() -> None:
    """Measure, print and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    number = parser.parse_args().rounds
    if problem := obstacle():
        print(f"slurm: not measured, no SLURM can be started here: {problem}")
        return
    slurm_parts, ray_parts = list[dict[str, float]](), list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_store(folder / "store")
        plan: dict[str, Any] = stage1(folder / "store").model_dump(mode="json")
        plan["train"] |= {"max_steps": 1, "validate_every": 1}
        (folder / "spec.yaml").write_text(yaml.safe_dump({"kind": "stage1", "run": "runs/spec", **plan}))
        slurm = SlurmCluster(folder / "slurm")
        try:
            slurm.start()
            cluster = local.up(folder / "cluster", num_cpus=WORKERS, root=ROOT)
            for turn in range(number):
                slurm_parts.append(by_sbatch(slurm, folder, f"slurm-{turn}"))
                ray_parts.append(first_step(cluster, "stage1", plan, folder / f"ray-{turn}"))
        finally:
            slurm.stop()
            local.down(folder / "cluster")
    seconds = {"ours": [parts["in all"] for parts in slurm_parts], OTHER: [parts["in all"] for parts in ray_parts]}
    row = compare("sbatch to first step, two nodes", "seconds", seconds, "ours", OTHER, unit="s", better="lower")
    parts = {part: round(median(each[part] for each in slurm_parts), 2) for part in slurm_parts[0]}
    what = "stage 1, a tower of width 16, one worker on each node; the nodes share two cores"
    write("slurm", [row], {"what": what, "seconds_to_first_step": parts})
    for part, each in parts.items():
        print(f"{each:8.2f} s  {part}")


if __name__ == "__main__":
    main()
