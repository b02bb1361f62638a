"""The tasks that there are. Light to import; nothing else spells a task's name."""

from collections.abc import Iterable
from typing import Annotated

from e2llm_core.oneof import OneOf
from e2llm_core.tasks.choice import MULTIPLE_CHOICE
from e2llm_core.tasks.dialogue import EEGForm
from e2llm_core.tasks.eim import IndividualMatching
from e2llm_core.tasks.epc import PairComparison
from e2llm_core.tasks.esr import ScenarioReasoning, UntaughtFamilies
from e2llm_core.tasks.ess import SequenceSorting
from e2llm_core.tasks.ied import BasicEmotion, OpenEmotion
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.readings.description import Description
from e2llm_core.tasks.readings.listing import Listing
from e2llm_core.tasks.task import Task, TrainedTask

DESCRIPTION, LISTING = Description(), Listing()

READINGS: dict[str, EEGForm] = {form.name: form for form in (LISTING, DESCRIPTION)}
"""What stage 2 can train, by name: questions about the signal. All of them where a spec names none."""

LABELLING = BasicEmotion()
"""What scoring and serving ask about each window."""

_TRAINED = (LABELLING, PairComparison(), SequenceSorting(), IndividualMatching())
_EVALUATED = (ScenarioReasoning(), UntaughtFamilies(), OpenEmotion(), *MULTIPLE_CHOICE)

TASKS: dict[str, Task] = {task.name: task for task in (*_TRAINED, *_EVALUATED)}
"""Tasks by name: those that stage 3 trains with EEG, and those that are only asked."""

DEFAULT_TASKS = (LABELLING.name, PairComparison.name)
"""Trained and evaluated where a spec names none; the others are trained and evaluated where a spec names them."""


def trained_tasks() -> dict[str, TrainedTask]:
    """Tasks that stage 3 can train, by name."""
    return {name: task for name, task in TASKS.items() if isinstance(task, TrainedTask)}


def trained_named(names: Iterable[str]) -> list[TrainedTask]:
    """The tasks of these names that stage 3 trains, in order; one that is named twice is there twice."""
    known = trained_tasks()
    return [known[name] for name in names]


def tasks_named(names: Iterable[str]) -> list[Task]:
    """The tasks of these names, each once, in order."""
    return [TASKS[name] for name in dict.fromkeys(names)]


ReadingName = Annotated[str, OneOf(lambda: READINGS)]
"""The name of a form that stage 2 can train, for settings."""

TaskName = Annotated[str, OneOf(lambda: TASKS)]
"""A registered task's name, for settings."""

TrainedTaskName = Annotated[str, OneOf(trained_tasks)]
"""The name of a task that stage 3 can train, for settings."""

MetricName = Annotated[
    str, OneOf(lambda: dict.fromkeys(metric.name for task in TASKS.values() for metric in task.metrics))
]
"""A metric's name, of any task."""


def control_names() -> list[str]:
    """Names of all controls: what is shown in the EEG's place, what sees none, and what is fitted."""
    names: list[str] = []
    for task in TASKS.values():
        names += [condition for condition in task.conditions if condition != EEG]
        names += [control.name for control in task.controls]
        names += [control.name for control in task.fitted_controls]
    return list(dict.fromkeys(names))


ControlName = Annotated[str, OneOf(control_names)]
"""A control's name, of any task."""
