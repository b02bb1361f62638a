"""The tasks that there are. Light to import; nothing else spells a task's name."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError

from e2llm_core.tasks.description import Description
from e2llm_core.tasks.epc import PairComparison
from e2llm_core.tasks.ied import BasicEmotion
from e2llm_core.tasks.task import Task

DESCRIPTION = Description()
"""What stage 2 trains."""

LABELLING = BasicEmotion()
"""What scoring and serving ask about each window."""

TASKS: dict[str, Task] = {task.name: task for task in (LABELLING, PairComparison())}
"""Tasks by name."""

DEFAULT_TASKS = (LABELLING.name, PairComparison.name)
"""Trained and evaluated where a spec names none."""


def tasks_named(names: Iterable[str]) -> list[Task]:
    """The tasks of these names, each once, in order."""
    return [TASKS[name] for name in dict.fromkeys(names)]


class _OneOf:
    """Has a JSON Schema list the names."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(TASKS), "type": "string"}


def _known(name: str) -> str:
    if name not in TASKS:
        raise PydanticCustomError("unknown_task", "no task has this name; there are {names}", {"names": list(TASKS)})
    return name


TaskName = Annotated[str, AfterValidator(_known), _OneOf()]
"""A registered task's name, for settings."""
