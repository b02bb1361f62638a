"""Checkpoints for another number of workers: DeepSpeed's universal form, and what loading it leaves to repair."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from e2llm_core.training.deepspeed_private import TO_UNIVERSAL, optimizer_states
from e2llm_core.training.world import World

_CONVERTED = ".universal-"
"""And a number of this attempt's own: what an earlier one started may still be converting."""


@contextmanager
def universal_form(folder: Path, tag: str, world: World, *, converts: bool) -> Iterator[Path]:
    """Convert a checkpoint; the copy exists while the block runs, the original is only read. A collective call.

    Parameters
    ----------
    folder : Path
        Complete checkpoint.
    tag : str
        Name of DeepSpeed's part of it.
    world : World
        This rank's place.
    converts : bool
        Whether this rank is the one of those that see the folder which converts.

    Raises
    ------
    RuntimeError
        When DeepSpeed's conversion fails; with the end of what it said.
    """
    scratch = folder.parent / f"{_CONVERTED}{world.number()}"
    said = ""
    if converts:
        said = _convert(folder / tag, scratch / tag)
    (failed,) = world.sum([bool(said)])
    if failed:
        raise RuntimeError(f"{folder}: DeepSpeed could not convert the checkpoint: {said or 'see rank 0'}")
    try:
        yield scratch
    finally:
        world.barrier()
        if converts:
            shutil.rmtree(scratch, ignore_errors=True)


def remove_converted(folder: Path) -> None:
    """Remove the conversions that killed attempts left in the checkpoint folder."""
    for left_over in folder.glob(f"{_CONVERTED}*"):
        shutil.rmtree(left_over, ignore_errors=True)


def _convert(source: Path, target: Path) -> str:
    """Run DeepSpeed's conversion; return the end of its output if it failed."""
    target.mkdir(parents=True)
    folders = ["--input_folder", str(source), "--output_folder", str(target)]
    command = [sys.executable, "-m", TO_UNIVERSAL, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr or "no message")[-2000:] if done.returncode else ""


def repair_groups(engine: Any, settings: list[dict[str, Any]]) -> None:
    """Correct the errors of loading a universal checkpoint with several parameter groups.

    DeepSpeed 0.19 gives every group the settings of the first one, and lets all parts of the optimizer share one
    step counter, which torch's AdamW then advances once for each.

    Parameters
    ----------
    engine : deepspeed.DeepSpeedEngine
        After ``load_checkpoint``.
    settings : list of dict
        Settings of the groups from before.

    Raises
    ------
    RuntimeError
        When the groups are still not those of the run, as another DeepSpeed might leave them.
    """
    rates = engine.lr_scheduler.get_last_lr()
    for group, own, rate in zip(engine.optimizer.param_groups, settings, rates, strict=True):
        group.update(own | {"lr": rate})
    for state in optimizer_states(engine):
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()
    _require_own(engine, settings)


def _require_own(engine: Any, settings: list[dict[str, Any]]) -> None:
    kept = ("name", "weight_decay")
    found = [[group.get(key) for key in kept] for group in engine.optimizer.param_groups]
    if found != [[own.get(key) for key in kept] for own in settings]:
        raise RuntimeError(f"after resharding the parameter groups are {found}")
    counters = [state["step"] for state in optimizer_states(engine) if "step" in state]
    tensors = [counter for counter in counters if isinstance(counter, torch.Tensor)]
    if len({counter.data_ptr() for counter in tensors}) != len(tensors):
        raise RuntimeError("after resharding parts of the optimizer share a step counter")
    if len({float(counter) for counter in counters}) > 1:
        raise RuntimeError(f"after resharding the optimizer's step counters differ: {counters}")


def group_settings(engine: Any) -> list[dict[str, Any]]:
    """Settings of an engine's parameter groups, for `repair_groups`."""
    return [{key: value for key, value in group.items() if key != "params"} for group in engine.optimizer.param_groups]
