"""``e2llm rate``: a page of blinded examples for raters, and the results of their answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from storage.errors import InputError
from storage.places.location import locate

if TYPE_CHECKING:
    from e2llm_core.evaluation.config import EvaluationPlan
    from e2llm_core.evaluation.intervals import Interval
    from e2llm_core.evaluation.rating.pairs import System
    from e2llm_core.evaluation.rating.results import RatingResults


@dataclass(frozen=True)
class Written:
    """Files that `write_page` wrote.

    Attributes
    ----------
    page, key
        The page for raters, and the key, which raters must not see.
    num_examples
        Number of examples on the page.
    """

    page: Path
    key: Path
    num_examples: int


def write_page(run: str, other: str | None, output: Path, number: int, seed: int) -> Written:
    """Write the raters' page of an evaluation, and its key beside it.

    Parameters
    ----------
    run, other : str
        Folders or URLs of evaluations; without `other`, the second system is the first one's text about another window.
    output : Path
        Path of the page; its key is ``<name>.key.json`` in the same folder.
    number : int
        Number of examples.
    seed : int
        Seed of the draw and of all orders.

    Raises
    ------
    InputError
        When a run is not an evaluation with rationales, both runs are the same, their stores or window lengths differ,
        they share no window, or the page or key exists already.
    """
    from e2llm_core.evaluation.rating.page import rating_page
    from e2llm_core.evaluation.rating.pairs import OTHER_WINDOW, chosen_pairs
    from e2llm_core.evaluation.rating.study import blinded
    from e2llm_core.stages.data import EEGData
    from storage.places.files import write_bytes

    key_path = output.with_suffix(".key.json")
    for path in (output, key_path):
        if path.exists():
            raise InputError(str(path), "already exists; raters may be using it", "Name another --output.")
    plan = plan_of(run)
    first, second = system(run, plan), None
    if other is not None:
        other_plan = plan_of(other)
        _check_comparable(run, other, plan, other_plan)
        second = system(other, other_plan)
    pairs = chosen_pairs(EEGData.open(plan.data), first, second, number, seed)
    examples, key = blinded(pairs, (first.name, second.name if second else OTHER_WINDOW), seed)
    write_bytes(output, rating_page(examples, key).encode())
    key.write(key_path)
    return Written(output, key_path, len(examples))


def plan_of(run: str) -> EvaluationPlan:
    """Settings of a finished evaluation, with absolute paths.

    Raises
    ------
    InputError
        When the run is not a finished evaluation, or its spec is from another version.
    """
    import yaml
    from pydantic import ValidationError

    from jobs.job import absolute
    from jobs.paths import root_folder
    from jobs.run_folder import SPEC
    from jobs.spec import SPECS, EvaluateSpec

    place, remedy = locate(run), "Name the run of a finished evaluation."
    if not (place.exists(SPEC) and place.exists("predictions.parquet")):
        raise InputError(run, "holds no answers of an evaluation", remedy)
    content = yaml.safe_load(place.read(SPEC))
    if content.get("kind") != next(kind for kind, spec in SPECS.items() if spec is EvaluateSpec):
        raise InputError(run, f"is a run of kind {content.get('kind')}", remedy)
    try:
        spec = EvaluateSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"its {SPEC} is from another version ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise InputError(run, problem, "Evaluate it again with this version.") from None
    plan: EvaluationPlan = absolute(spec, root_folder())
    return plan


def _check_comparable(run: str, other: str, plan: EvaluationPlan, other_plan: EvaluationPlan) -> None:
    """Refuse a second evaluation that is the first one, or whose store or window length differs."""
    from storage.store import open_store

    remedy = "Name another evaluation of the same store and windows in --other, or leave it out."
    if str(locate(run)) == str(locate(other)):
        raise InputError(f"--other {other}", "is the same evaluation as the first", remedy)
    stores = [str(each.data.store) for each in (plan, other_plan)]
    if stores[0] != stores[1] and len({open_store(store).digest for store in stores}) > 1:
        raise InputError(f"--other {other}", f"uses another store: {stores[1]}, not {stores[0]}", remedy)
    seconds = [each.data.windows.window_seconds for each in (plan, other_plan)]
    if seconds[0] != seconds[1]:
        problem = f"shows windows of {seconds[1]:g} s, but {run} shows windows of {seconds[0]:g} s"
        raise InputError(f"--other {other}", problem, remedy)


def system(run: str, plan: EvaluationPlan) -> System:
    """The language model of an evaluation, with its answers.

    Raises
    ------
    InputError
        When the evaluation has no language model, or several.
    """
    from e2llm_core.evaluation.models import models_of
    from e2llm_core.evaluation.predictions import from_parquet
    from e2llm_core.evaluation.rating.pairs import System

    speaking = [model for model in models_of(plan) if model.speaks]
    if len(speaking) != 1:
        found = ", ".join(model.name for model in speaking) or "none"
        raise InputError(
            run, f"has {len(speaking)} language models ({found})", "Name an evaluation of one language model."
        )
    (model,) = speaking
    return System(run, from_parquet(locate(run).read("predictions.parquet")), model.name, model.family)


def read_answers(files: Sequence[Path], key: Path) -> RatingResults:
    """Read and unblind the answers that raters saved.

    Raises
    ------
    InputError
        When a file does not hold a rater's answers or belongs to another page, or a rater answers twice.
    """
    from e2llm_core.evaluation.rating.results import rating_results
    from e2llm_core.evaluation.rating.study import RaterAnswers, StudyKey

    study = StudyKey.read(key)
    return rating_results(study, [RaterAnswers.read(path, study) for path in files])


def shown(results: RatingResults) -> Group:
    """Tables of the results for a terminal."""
    first, second = results.systems
    head = f"{len(results.raters)} raters, {results.num_examples} examples; A: {first}; B: {second}"
    agreement = Table(title="Agreement of raters", title_justify="left")
    for name in ("question", "judged twice or more", "kappa", "alpha"):
        agreement.add_column(name, justify="left" if name == "question" else "right")
    for one in results.agreement:
        agreement.add_row(one.question, str(one.units), _number(one.kappa), _number(one.alpha))
    differences = Table(title="A against B", title_justify="left")
    for name in ("question", "A", "B", "difference", "95 % over examples", "95 % over raters"):
        differences.add_column(name, justify="left" if name == "question" else "right")
    for row in results.differences:
        means = results.means.get(row.question, (row.value, 1 - row.value))
        cells = [_number(value) for value in (*means, means[0] - means[1] if row.question in results.means else None)]
        differences.add_row(row.question, *cells, _interval(row.over_examples), _interval(row.over_raters))
    words = (
        "For the preference, intervals are of the share that prefers A (0.5: no preference); for scales, of A minus B."
    )
    return Group(Text(head, style="bold"), agreement, differences, Text(words, style="dim"))


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _interval(interval: Interval) -> str:
    return "–" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"
