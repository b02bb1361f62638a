"""Checkpoint folders: the newest complete one determines where a run resumes."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from e2llm_core.training.engine import Engine
from e2llm_core.training.metrics import RECORDS
from e2llm_core.training.universal import remove_converted
from e2llm_core.training.world import World
from storage.errors import InputError
from storage.places.base import Location
from storage.places.files import flush, write_bytes, write_json
from storage.places.workspace import Workspace

_FOLDER, _STATE = "checkpoints", "state.json"
_STEP = re.compile(r"step-\d+")
_COMPLETE, _WRITING = "COMPLETE", ".writing-"


@dataclass(frozen=True)
class TrainerState:
    """State needed to resume besides DeepSpeed's files; the step is the sampler's only integer."""

    step: int
    world_size: int
    best_score: float | None = None
    best_step: int | None = None


class Checkpoints:
    """The checkpoints of one run, in `<run>/checkpoints`.

    In a bucket, which cannot rename, the files stay below the name under which they were written, and the marker
    tells it: `step-000500/COMPLETE` says `step-000500.writing-1234`. A node's own copies live no longer than they are
    written or read.

    Parameters
    ----------
    run : Workspace, Path or str
        Where this node works on the run; or the run's folder or URL.
    keep : int
        Number of complete checkpoints to keep, beside the one of the best step.
    world : World
        This rank's place; where it is one of several, making this is a collective call.

    Attributes
    ----------
    leads : bool
        Whether this rank does what is done once in this node's folder.
    """

    def __init__(self, run: Workspace | Path | str, keep: int, world: World) -> None:
        self._workspace = run if isinstance(run, Workspace) else Workspace(run, world.node_rank)
        self.root, self.keep, self.world = self._workspace.folder / _FOLDER, keep, world
        self.leads = world.is_first_of(self._workspace.identity)
        self._being_written: tuple[TrainerState, Path] | None = None
        self._removable = (
            {name for name in self._names() if _WRITING in name} if self.leads or world.is_first else set()
        )

    def complete(self) -> list[Path]:
        """Complete checkpoints, oldest first; where they are, or would be, on this node."""
        return [self.root / name for name in complete_checkpoints(self._workspace.place)]

    def save(self, engine: Engine, state: TrainerState) -> None:
        """Start a checkpoint; it counts only after `finish` has written its marker. A collective call.

        It is written in a folder of its own, and only what was there when this attempt began is removed: workers of
        another attempt, on a node that was given up because it hangs, may still write.

        Raises
        ------
        InputError
            When it, or the one before it, cannot be written.
        """
        self.finish(engine)
        folder = self.root / f"{self._folder(state.step).name}{_WRITING}{self.world.number()}"
        if self.leads:
            try:
                for name in self._removable:
                    shutil.rmtree(self.root / name, ignore_errors=True)
                folder.mkdir(parents=True)
            except OSError as error:
                raise self._refusal(state, error) from error
        self.world.barrier()
        engine.save(folder)
        self._being_written = state, folder
        self._removable.add(folder.name)

    def is_written(self, engine: Engine) -> bool:
        """Whether this rank has no checkpoint write in progress."""
        return self._being_written is None or not engine.is_saving

    def finish(self, engine: Engine) -> None:
        """Wait for a checkpoint in progress, if any, and mark it as complete. A collective call.

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
        except InputError as error:
            refusal = error
        except (OSError, RuntimeError) as error:
            refusal = self._refusal(state, error)
        (failed,) = self.world.sum([refusal is not None])
        if failed:
            if self.leads:
                shutil.rmtree(folder, ignore_errors=True)
            raise refusal or self._refusal(state, RuntimeError("another worker could not write its part"))
        if self.world.is_first:
            try:
                self._complete(state, folder)
            except OSError as error:
                raise self._refusal(state, error) from error
            with suppress(FileNotFoundError):  # a worker of another attempt, on a node given up, replaces one
                self._rotate(state)
        elif self.leads:
            shutil.rmtree(folder, ignore_errors=True)

    def _complete(self, state: TrainerState, folder: Path) -> None:
        """Give a checkpoint its name and, as the last write of all, its marker."""
        complete = self._folder(state.step)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder.name} was removed while it was being written")
        write_json(folder / _STATE, asdict(state))
        self._workspace.send_file(folder / _STATE)
        self._workspace.send(*RECORDS)
        shutil.rmtree(complete, ignore_errors=True)
        folder.rename(complete)
        for names in (complete, self.root):
            flush(names)
        write_bytes(complete / _COMPLETE, folder.name.encode())
        flush(complete)
        self._workspace.send_file(complete / _COMPLETE)
        if not self._workspace.is_shared:
            shutil.rmtree(complete)

    def resume(self, engine: Engine) -> TrainerState | None:
        """Load the newest complete checkpoint, if any, whatever number of workers wrote it. A collective call.

        Raises
        ------
        InputError
            When another number of workers wrote it and the run does not use ZeRO-3.
        """
        if self.leads:
            remove_converted(self.root)
        found = self.complete() if self.world.is_first else []
        (newest,) = self.world.sum([_step(found[-1].name) if found else 0])
        return self._load(engine, self._folder(int(newest))) if newest else None

    def load_best(self, engine: Engine, state: TrainerState) -> None:
        """Go back to the best step. A collective call."""
        if state.best_step is not None and state.best_step != state.step:
            self._load(engine, self._folder(state.best_step))

    def _load(self, engine: Engine, folder: Path) -> TrainerState:
        with self._at_hand(folder):
            state = TrainerState(**json.loads((folder / _STATE).read_text()))
            if state.world_size == self.world.size:
                engine.load(folder)
            else:
                engine.load_resharded(folder, converts=self.leads)
        return state

    @contextmanager
    def _at_hand(self, folder: Path) -> Iterator[None]:
        """Have a complete checkpoint on this node while the block runs. A collective call."""
        if self._workspace.is_shared:
            yield
            return
        if self.leads:
            self._workspace.fetch_folder(f"{_FOLDER}/{self._written_as(folder.name)}", folder)
        self.world.barrier()
        yield
        self.world.barrier()
        if self.leads:
            shutil.rmtree(folder)

    def _written_as(self, name: str) -> str:
        """Name under which the files of a complete checkpoint were written."""
        return self._workspace.place.read(f"{_FOLDER}/{name}/{_COMPLETE}").decode()

    def _folder(self, step: int) -> Path:
        return self.root / f"step-{step:06d}"

    def _refusal(self, state: TrainerState, error: Exception) -> InputError:
        return InputError(
            str(self._folder(state.step)),
            f"the checkpoint could not be written ({error})",
            "Free space there, or raise train.checkpoint_every; started again, the run resumes from the previous one.",
        )

    def _rotate(self, state: TrainerState) -> None:
        complete = complete_checkpoints(self._workspace.place)
        best = [] if state.best_step is None else [self._folder(state.best_step).name]
        kept = {*complete[-self.keep :], *best} & {*complete}
        kept |= {self._written_as(name) for name in kept}
        for name in self._workspace.place.folders(_FOLDER):
            if name not in kept and (_STEP.fullmatch(name) or name in self._removable):
                with suppress(OSError):
                    self._workspace.place.remove(f"{_FOLDER}/{name}")

    def _names(self) -> set[str]:
        """Of the folders of all checkpoints, complete or not, of the run and on this node."""
        return {*self._workspace.place.folders(_FOLDER), *(path.name for path in self.root.glob("step-*"))}


def complete_checkpoints(place: Location) -> list[str]:
    """Names of the complete checkpoints of a run, oldest first."""
    found = [
        name
        for name in place.folders(_FOLDER)
        if _STEP.fullmatch(name) and place.exists(f"{_FOLDER}/{name}/{_COMPLETE}")
    ]
    return sorted(found, key=_step)


def _step(name: str) -> int:
    return int(name.removeprefix("step-"))
