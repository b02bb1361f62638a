"""``e2llm plan``: what a training job will need, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cluster.planning.gpus import gpu_of
from cluster.planning.plan import JobPlan, Setting, plan_job
from cluster.planning.units import count, duration, gigabytes, of_nodes
from e2llm_core.stages.config import StagePlan
from jobs.job import absolute
from jobs.load import load_spec
from jobs.paths import root_folder
from jobs.spec import SPECS
from storage.errors import InputError


def show_plan(path: Path, overrides: Sequence[str], gpus: int, gpu: str, *, as_json: bool) -> None:
    """Print the plan of a training job.

    Parameters
    ----------
    path, overrides
        The spec, and ``key.path=value`` assignments. The folders it names need not exist.
    gpus, gpu
        How many, and their name in `cluster.planning.gpus.GPUS`.
    as_json
        One JSON object instead of a table.

    Raises
    ------
    InputError
        When the spec is not a training job, its model or the GPU is unknown, or the job as it is does not fit: the plan
        is printed all the same, and the message names the largest item and what would fit.
    """
    kind = gpu_of(gpu)
    spec = load_spec(path, overrides, SPECS).spec
    if not isinstance(spec, StagePlan):
        raise InputError(str(path), "is not a training job", "Plan tiny-llm, stage1, stage2 or stage3.")
    plan = plan_job(absolute(spec, root_folder()).workload(), gpus, kind)
    if as_json:
        print(plan.model_dump_json(indent=2))
    else:
        Console().print(rendered(plan))
    if not plan.fits:
        raise refusal(plan, path)


def refusal(plan: JobPlan, path: Path) -> InputError:
    """Explain why a plan does not fit, and which would."""
    largest = plan.memory.largest
    needs = f"needs {gigabytes(plan.memory_bytes)} on every GPU, of which {gigabytes(plan.usable_bytes)} can be used"
    problem = f"{needs}; the largest item is {largest} with {gigabytes(plan.memory.items[largest])}"
    if plan.memory_bytes <= plan.usable_bytes:
        largest = plan.memory.largest_in_host
        needs = f"needs {gigabytes(plan.host_bytes)} of main memory per GPU"
        problem = f"{needs}, of which {gigabytes(plan.usable_host_bytes)} can be used; "
        problem += f"the largest item is {largest} with {gigabytes(plan.memory.host[largest])}"
    found = plan.fastest or plan.smallest
    place = f"{path} on {plan.gpus} x {plan.gpu}"
    if found is None:
        return InputError(place, problem, "No number of these GPUs is enough; use a smaller model, or train.lora.")
    return InputError(place, problem, f"It fits {_setting(found, plan)}.")


def _setting(found: Setting, plan: JobPlan) -> str:
    where = "" if found.gpus == plan.gpus else f"on --gpus {found.gpus} ({of_nodes(found.nodes)}) "
    how = f"with {' '.join(found.overrides)}" if found.overrides else "as it is"
    return f"{where}{how}: {gigabytes(found.memory_bytes)}, {duration(found.step_seconds)} per step"


def rendered(plan: JobPlan) -> Group:
    """The plan as text: memory of each GPU, speed, verdict and advice."""
    note = [Text(plan.llm_note, style="bold yellow")] if plan.llm_note else []
    return Group(*note, _memory_table(plan), _run_table(plan), *_verdict(plan))


def _memory_table(plan: JobPlan) -> Table:
    model = f", {plan.llm}" if plan.llm else ""
    title = f"{plan.stage}{model}: memory of each of {plan.gpus} x {plan.gpu}, peak in the {plan.memory.peak}"
    table = Table("item", title=title, title_justify="left")
    table.add_column("GB", justify="right")
    table.add_column("share", justify="right")
    for name, size in plan.memory.items.items():
        if size:
            table.add_row(name, f"{size / 1e9:.2f}", f"{size / plan.memory_bytes:.0%}")
    table.add_section()
    table.add_row("total", f"{plan.memory_bytes / 1e9:.2f}", f"{plan.memory_bytes / plan.usable_bytes:.0%} of usable")
    table.add_section()
    for name, size in plan.memory.host.items():
        if size:
            table.add_row(f"main memory: {name}", f"{size / 1e9:.2f}", f"{size / plan.host_bytes:.0%}")
    table.add_row(
        "main memory, per GPU",
        f"{plan.host_bytes / 1e9:.2f}",
        f"{plan.host_bytes / plan.usable_host_bytes:.0%} of usable",
    )
    if plan.memory.nvme:
        table.add_row("NVMe, per GPU", f"{plan.memory.nvme / 1e9:.2f}", "")
    return table


def _run_table(plan: JobPlan) -> Table:
    step = plan.step
    table = Table("the run", "", show_header=False)
    table.add_row("parameters", f"{count(plan.parameters)}, {count(plan.trainable_parameters)} of them train")
    limits = f"compute {duration(step.compute)}, memory {duration(step.memory)}, "
    limits += f"interconnect {duration(step.interconnect)}, optimizer {duration(step.optimizer)}"
    table.add_row("step", f"{duration(plan.step_seconds)}, bound by {plan.bound} ({limits})")
    table.add_row("passes per step", f"{step.passes} on every GPU")
    speed = f"{plan.samples_per_second:,.0f} samples/s"
    if plan.tokens_per_second:
        speed += f", {plan.tokens_per_second:,.0f} tokens/s"
    table.add_row("speed", f"{speed}, MFU {step.mfu:.0%}")
    table.add_row("training", f"{duration(plan.training.seconds)}, {plan.training.gpu_hours:,.1f} GPU-hours")
    saved = plan.checkpoint
    table.add_row(
        "checkpoint",
        f"{gigabytes(saved.size_bytes)} every {duration(saved.every_seconds)}, written in "
        f"{duration(saved.write_seconds)} beside training",
    )
    return table


def _verdict(plan: JobPlan) -> list[Text]:
    lines = []
    if plan.fits:
        lines.append(Text(f"Fits on {plan.gpus} x {plan.gpu} ({of_nodes(plan.nodes)}).", style="bold green"))
    else:
        lines.append(Text(f"Does not fit on {plan.gpus} x {plan.gpu}.", style="bold red"))
    found = plan.fastest or plan.smallest
    if found is not None:
        lines.append(Text(f"Fastest that fits: {_setting(found, plan)}."))
    lines.extend(Text(f"Assumed: {note}.", style="dim") for note in plan.assumptions)
    return lines
