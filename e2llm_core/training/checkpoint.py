"""Checkpoint folders: the newest complete one is the only truth about where a run stands."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from e2llm_core.training.engine import Engine
from e2llm_core.training.world import World
from storage.files import write_json

_COMPLETE = "COMPLETE"


@dataclass(frozen=True)
class TrainerState:
    """What is needed beside DeepSpeed's files to go on: the step is the sampler's one integer."""

    step: int
    world_size: int
    best_score: float | None = None


class Checkpoints:
    """The checkpoints of one run, in `<run>/checkpoints`.

    Parameters
    ----------
    root : Path
        The run's folder, shared by all ranks.
    keep : int
        Number of complete checkpoints to keep.
    world : World
        This rank's place.
    """

    def __init__(self, root: Path, keep: int, world: World) -> None:
        self.root, self.keep, self.world = root / "checkpoints", keep, world

    def complete(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = (marker.parent for marker in self.root.glob(f"step-*/{_COMPLETE}"))
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("step-")))

    def save(self, engine: Engine, state: TrainerState) -> None:
        """Write a checkpoint; it counts only once its marker, the last write, is there. A collective call."""
        folder = self.root / f"step-{state.step:06d}"
        if self.world.is_first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.world.barrier()
        engine.save(folder)
        self.world.barrier()
        if self.world.is_first:
            write_json(folder / "state.json", asdict(state))
            (folder / _COMPLETE).touch()
            self._rotate()

    def resume(self, engine: Engine) -> TrainerState | None:
        """Load the newest complete checkpoint, if any, whatever number of workers wrote it. A collective call.

        Raises
        ------
        InputError
            When another number of workers wrote it and the run does not use ZeRO-3.
        """
        found = self.complete()
        if not found:
            return None
        state = TrainerState(**json.loads((found[-1] / "state.json").read_text()))
        if state.world_size == self.world.size:
            engine.load(found[-1])
        else:
            engine.load_resharded(found[-1])
        return state

    def _rotate(self) -> None:
        kept = set(self.complete()[-self.keep :])
        for folder in self.root.glob("step-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)
