"""Coverage of each 95 % interval in simulated evaluations, by the number of tested subjects.

python benchmarks/coverage.py [--repeats N]

A right answer has the log-odds ``mean + subject + clip + (subject x clip)``, each part normal; a wrong answer is any
other label. Windows of a clip share all of it, so that they are far from independent, as real ones are. A second model
shares most of each part, for paired differences. What an interval should cover is known exactly: the mean over all
subjects with these clips, over all clips with these subjects, or over both.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks._report import RESULTS, ROOT
from cluster.environment import environment
from e2llm_core.evaluation.intervals import Interval, Statistic, bootstrap_interval, t_interval
from e2llm_core.evaluation.scores import scores_from_counts

SUBJECTS = (5, 9, 10, 20)
RESAMPLES = 2000


@dataclass(frozen=True)
class Population:
    """Standard deviations are of log-odds.

    Attributes
    ----------
    clips : tuple of int
        Of each label, as of SEED-VII.
    windows : int
        Of each clip.
    mean, mean_b : float
        Log-odds of a right answer, of model A and of model B.
    subject, clip, both : float
        Standard deviations of the parts.
    shared : float
        Correlation of A's and B's parts.
    """

    clips: tuple[int, ...] = (12, 12, 12, 8, 12, 12, 12)
    windows: int = 30
    mean: float = -0.2
    mean_b: float = -0.4
    subject: float = 0.4
    clip: float = 0.6
    both: float = 0.5
    shared: float = 0.8

    @cached_property
    def label(self) -> np.ndarray:
        """Of each clip."""
        return np.repeat(np.arange(len(self.clips)), self.clips)


FEW_CLIPS = Population(clips=(3, 3, 3, 2, 3, 3, 3))
"""As many clips as a fold of the official ones tests."""


@dataclass(frozen=True)
class Drawn:
    """One model's evaluation: counts by subject and clip, and what intervals should cover by the name of the target."""

    counts: np.ndarray
    truth: dict[str, float]


def expected(log_odds: np.ndarray, deviation: float) -> np.ndarray:
    """Mean probability over a normal part of this standard deviation, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    shares = 1 / (1 + np.exp(-(log_odds[..., None] + deviation * nodes)))
    return np.asarray(shares @ weights / weights.sum())


def by_label(values: np.ndarray, people: Population) -> float:
    """Mean over labels of the mean over their clips (clips,)."""
    return float(np.mean([values[people.label == label].mean() for label in range(len(people.clips))]))


def correlated(rng: np.random.Generator, deviation: float, shared: float, *shape: int) -> np.ndarray:
    """The same part of two models, (2, *shape)."""
    common, own = rng.normal(size=shape), rng.normal(size=(2, *shape))
    return deviation * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)


def draw(rng: np.random.Generator, people: Population, subjects: int) -> tuple[Drawn, Drawn]:
    """Both models on the same items."""
    num_labels, num_clips = len(people.clips), len(people.label)
    subject = correlated(rng, people.subject, people.shared, subjects, 1)
    clip = correlated(rng, people.clip, people.shared, 1, num_clips)
    both = correlated(rng, people.both, people.shared, subjects, num_clips)
    made = []
    for place, mean in enumerate((people.mean, people.mean_b)):
        odds = mean + subject[place] + clip[place] + both[place]
        right = rng.binomial(people.windows, 1 / (1 + np.exp(-odds)))
        wrong = rng.multinomial(people.windows - right, np.full(num_labels - 1, 1 / (num_labels - 1)))
        counts = np.zeros((subjects, num_clips, num_labels, num_labels + 1), dtype=np.int64)
        for number, label in enumerate(people.label):
            others = [other for other in range(num_labels) if other != label]
            counts[:, number, label, label] = right[:, number]
            counts[:, number, label, others] = wrong[:, number]
        parts = {
            "subjects": by_label(expected(mean + clip[place][0], np.hypot(people.subject, people.both)), people),
            "clips": float(expected(mean + subject[place][:, 0], np.hypot(people.clip, people.both)).mean()),
            "both": float(expected(np.array(mean), np.sqrt(people.subject**2 + people.clip**2 + people.both**2))),
        }
        made.append(Drawn(counts, parts))
    return made[0], made[1]


def scored(counts: np.ndarray) -> np.ndarray:
    """Balanced accuracy of count tables."""
    return scores_from_counts(counts)["balanced_accuracy"]


@dataclass
class Kept:
    """A statistic that keeps what it gave, so that plain percentiles are those of the same resamples."""

    statistic: Statistic
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __call__(self, draws: np.ndarray) -> np.ndarray:
        """Values of resamples."""
        self.values = self.statistic(draws)
        return self.values

    @property
    def percentiles(self) -> Interval:
        """Of 95 %."""
        return Interval(*(float(end) for end in np.quantile(self.values, [0.025, 0.975])), "percentile")


def of_resamples(*tables: np.ndarray) -> Statistic:
    """Balanced accuracy of resamples of the first axis; of two tables the difference."""
    flat = [table.astype(np.float64) for table in tables]

    def statistic(draws: np.ndarray) -> np.ndarray:
        values = [scored(np.tensordot(draws.astype(np.float64), table, axes=1)) for table in flat]
        return values[0] if len(values) == 1 else values[0] - values[1]

    return statistic


def intervals(a: Drawn, b: Drawn, seed: int) -> Iterator[tuple[str, str, Interval, dict[str, float]]]:
    """Every interval of one evaluation: what it is of, its method, itself, and what it should cover."""
    difference = {name: a.truth[name] - b.truth[name] for name in a.truth}
    for name, tables, truth in (("one model", (a,), a.truth), ("paired difference", (a, b), difference)):
        of_subject = [one.counts.sum(axis=1) for one in tables]
        values = scored(of_subject[0]) - (scored(of_subject[1]) if len(tables) > 1 else 0.0)
        yield name, "t_subjects", t_interval(values), truth
        count = len(values)
        mean_of_values: Statistic = lambda draws, values=values: draws @ values / len(values)  # noqa: E731
        kept = Kept(of_resamples(*of_subject) if len(tables) == 1 else mean_of_values)
        yield name, "subject_bootstrap", bootstrap_interval(kept, count, n_resamples=RESAMPLES, seed=seed), truth
        yield name, "percentile", kept.percentiles, truth
        of_clip = [one.counts.sum(axis=0) for one in tables]
        over_clips = bootstrap_interval(of_resamples(*of_clip), len(of_clip[0]), n_resamples=RESAMPLES, seed=seed)
        yield name, "clip_bootstrap", over_clips, truth


def measured(people: Population, subjects: int, repeats: int) -> list[dict[str, object]]:
    """Coverage of each interval over repeated evaluations of so many subjects."""
    rng = np.random.default_rng([7, subjects])
    hits: dict[tuple[str, str], list[list[bool]]] = {}
    widths: dict[tuple[str, str], list[float]] = {}
    targets: list[str] = []
    for repeat in range(repeats):
        for name, method, interval, truth in intervals(*draw(rng, people, subjects), repeat):
            targets = list(truth)
            found = [interval.low <= value <= interval.high for value in truth.values()]
            hits.setdefault((name, method), []).append(found)
            widths.setdefault((name, method), []).append(interval.high - interval.low)
    return [
        {
            "subjects": subjects,
            "clips": len(people.label),
            "of": name,
            "method": method,
            "width": round(float(np.mean(widths[name, method])), 4),
        }
        | dict(zip((f"covers_{target}" for target in targets), np.mean(found, axis=0).round(4).tolist(), strict=True))
        for (name, method), found in hits.items()
    ]


def main() -> None:
    """Simulate, print and write."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=1000, help="evaluations of each size")
    repeats = parser.parse_args().repeats
    people = Population()
    simulated = [*((people, subjects) for subjects in SUBJECTS), (FEW_CLIPS, SUBJECTS[-1])]
    rows = [row for given, subjects in simulated for row in measured(given, subjects, repeats)]
    table = Table(title=f"Coverage of 95 % intervals, {repeats} simulated evaluations of each size")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=140).print(table)
    content = {"environment": environment(ROOT), "repeats": repeats, "population": asdict(people), "rows": rows}
    (RESULTS / "coverage.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
