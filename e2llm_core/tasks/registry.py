"""The tasks that there are. Light to import; nothing else spells a task's name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

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


@dataclass(frozen=True)
class _OneOf:
    """Has settings refuse a text that is none of some names, and a JSON Schema list them."""

    names: Callable[[], Iterable[str]]

    def _known(self, text: str) -> str:
        if text not in (names := list(self.names())):
            raise PydanticCustomError("unknown_name", "is none of {names}", {"names": ", ".join(names)})
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self.names()), "type": "string"}


TaskName = Annotated[str, _OneOf(lambda: TASKS)]
"""A registered task's name, for settings."""

MetricName = Annotated[
    str, _OneOf(lambda: dict.fromkeys(metric.name for task in TASKS.values() for metric in task.metrics))
]
"""A metric's name, of any task."""
