"""What every job's spec holds and knows of itself; the kinds are in :mod:`jobs.spec`. Light to import."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from cluster.resources import Resources
from e2llm_core.plan import Plan
from e2llm_core.stages.config import FolderOrHub
from jobs.paths import model_folders
from storage.places.base import Place, is_url


class Job(Plan):
    """What every spec holds, and what its job does. Its paths are absolute before anything but `kind` is asked."""

    kind: str
    run: Place = Field(description="of the run: spec, metrics, checkpoints, model, results")

    @property
    def looks_for_more(self) -> bool:
        """Whether a finished run looks for more to do."""
        return False

    @abstractmethod
    def work(self, facts: dict[str, Any]) -> None:
        """Do the job on the connected cluster.

        Parameters
        ----------
        facts : dict
            The run's environment, for reports.
        """

    def preview(self) -> None:
        """Print what `e2llm check` says beyond that the spec is valid. Its paths are absolute."""

    def tidy(self) -> None:
        """Remove what nobody needs once the run is marked done."""


class ClusterJob(Job):
    """What the spec of a job holds that is spread over a fixed number of workers."""

    resources: Resources = Field(default_factory=Resources)


def absolute(value: Any, root: Path) -> Any:
    """A copy of a spec, or a part of one, in which every path is absolute; URLs stay as they are.

    A language model that is neither below `root` nor in the repository stays as it is: a name on the hub.
    """
    if isinstance(value, Path):
        return root / value
    if isinstance(value, Place):
        return value if is_url(value) else Place(root / value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        changes = {name: absolute(getattr(value, name), root) for name in fields}
        for name in [name for name, field in fields.items() if FolderOrHub in field.metadata]:
            folders = [folder for folder in model_folders(changes[name] or "", root) if folder.is_dir()]
            changes[name] = str(folders[0]) if changes[name] and folders else changes[name]
        return value.model_copy(update=changes)
    if isinstance(value, tuple):
        return tuple(absolute(item, root) for item in value)
    if isinstance(value, Mapping):
        return {key: absolute(item, root) for key, item in value.items()}
    return value
