"""Checkpoint folders: the newest complete one is the only truth about where a run stands."""

import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from e2llm_core.training.engine import Engine
from e2llm_core.training.world import World
from storage.errors import InputError
from storage.files import write_json

_COMPLETE, _WRITING = "COMPLETE", ".writing-"
_NUMBER_BITS = 32


@dataclass(frozen=True)
class TrainerState:
    """What is needed beside DeepSpeed's files to go on: the step is the sampler's one integer."""

    step: int
    world_size: int
    best_score: float | None = None
    best_step: int | None = None


class Checkpoints:
    """The checkpoints of one run, in `<run>/checkpoints`.

    Parameters
    ----------
    root : Path
        The run's folder, shared by all ranks.
    keep : int
        Number of complete checkpoints to keep, beside the one of the best step.
    world : World
        This rank's place.
    """

    def __init__(self, root: Path, keep: int, world: World) -> None:
        self.root, self.keep, self.world = root / "checkpoints", keep, world
        self._being_written: tuple[TrainerState, Path] | None = None

    def complete(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = (marker.parent for marker in self.root.glob(f"step-*/{_COMPLETE}"))
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("step-")))

    def save(self, engine: Engine, state: TrainerState) -> None:
        """Begin a checkpoint; it counts only once `finish` has put its marker there. A collective call.

        It is written in a folder of its own: a worker of an earlier attempt that was given up but still runs, on a node
        that hangs, has another.

        Raises
        ------
        InputError
            When it, or the one before it, cannot be written.
        """
        self.finish(engine)
        (number,) = self.world.sum([secrets.randbits(_NUMBER_BITS) if self.world.is_first else 0])
        folder = self.root / f"{self._folder(state.step).name}{_WRITING}{int(number)}"
        if self.world.is_first:
            try:
                for left_over in self.root.glob(f"step-*{_WRITING}*"):
                    shutil.rmtree(left_over, ignore_errors=True)
                folder.mkdir(parents=True)
            except OSError as error:
                raise self._refusal(state, error) from error
        self.world.barrier()
        engine.save(folder)
        self._being_written = state, folder

    def is_written(self, engine: Engine) -> bool:
        """Whether nothing, or nothing any more, is being written by this rank."""
        return self._being_written is None or not engine.is_saving

    def finish(self, engine: Engine) -> None:
        """Wait for the checkpoint that was begun, if any, and mark it as complete. A collective call.

        Raises
        ------
        InputError
            When a worker could not write its part; the checkpoints before are untouched.
        """
        if self._being_written is None:
            return
        (state, folder), self._being_written = self._being_written, None
        refusal: InputError | None = None
        try:
            engine.finish_saving()
        except (OSError, RuntimeError) as error:
            refusal = self._refusal(state, error)
        (failed,) = self.world.sum([refusal is not None])
        if failed:
            raise refusal or self._refusal(state, RuntimeError("another worker could not write its part"))
        if self.world.is_first:
            try:
                write_json(folder / "state.json", asdict(state))
                shutil.rmtree(self._folder(state.step), ignore_errors=True)
                complete = folder.rename(self._folder(state.step))
                (complete / _COMPLETE).touch()
            except OSError as error:
                raise self._refusal(state, error) from error
            self._rotate(state)

    def resume(self, engine: Engine) -> TrainerState | None:
        """Load the newest complete checkpoint, if any, whatever number of workers wrote it. A collective call.

        Raises
        ------
        InputError
            When another number of workers wrote it and the run does not use ZeRO-3.
        """
        found = self.complete()
        return self._load(engine, found[-1]) if found else None

    def load_best(self, engine: Engine, state: TrainerState) -> None:
        """Go back to the best step. A collective call."""
        if state.best_step is not None and state.best_step != state.step:
            self._load(engine, self._folder(state.best_step))

    def _load(self, engine: Engine, folder: Path) -> TrainerState:
        state = TrainerState(**json.loads((folder / "state.json").read_text()))
        if state.world_size == self.world.size:
            engine.load(folder)
        else:
            engine.load_resharded(folder)
        return state

    def _folder(self, step: int) -> Path:
        return self.root / f"step-{step:06d}"

    def _refusal(self, state: TrainerState, error: Exception) -> InputError:
        return InputError(
            str(self._folder(state.step)),
            f"the checkpoint could not be written ({error})",
            "Free space there, or raise train.checkpoint_every; started again, the run goes on from the one before.",
        )

    def _rotate(self, state: TrainerState) -> None:
        kept = {*self.complete()[-self.keep :]}
        if state.best_step is not None:
            kept.add(self._folder(state.best_step))
        for folder in self.root.glob("step-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)
