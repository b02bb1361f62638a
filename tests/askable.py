"""The tasks that can be asked of some labels."""

from collections.abc import Sequence

from e2llm_core.tasks.registry import TASKS
from e2llm_core.tasks.task import Task
from storage.errors import InputError


def askable(labels: Sequence[str]) -> dict[str, Task]:
    """Tasks that do not refuse these labels, by name."""
    return {name: task for name, task in TASKS.items() if not _refused(task, labels)}


def _refused(task: Task, labels: Sequence[str]) -> bool:
    try:
        task.check_labels(labels, "tasks")
    except InputError:
        return True
    return False
