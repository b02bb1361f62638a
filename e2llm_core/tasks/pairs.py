"""Pairs of segments for comparison: one subject and session, different trials, balanced, matched in distance."""

import numpy as np
import pandas as pd

from e2llm_core.tasks.trials import TrialKey, TrialWindows
from storage.errors import InputError
from storage.windows import Windows

SAME, DIFFERENT = "same", "different"
"""The answers of a comparison."""

OPTIONS = (SAME, DIFFERENT)

_Pairs = tuple[list[tuple[TrialKey, TrialKey]], list[tuple[TrialKey, TrialKey]]]


class PairSampler:
    """Draws pairs of windows, half of one label and half of two.

    Both kinds have the same distribution of distances between the two trials' positions, so that slow drift alone does
    not tell them apart.

    Parameters
    ----------
    trials : TrialWindows
        Trials with their subject, session, trial, position and label_id.
    task : str
        Whose pairs they are.

    Raises
    ------
    InputError
        When no session has both a pair of one label and a pair of two at some distance.
    """

    def __init__(self, trials: TrialWindows, task: str) -> None:
        self._trials = trials
        self._matched: list[_Pairs] = []
        for (subject, session), rows in trials.table.groupby(["subject", "session"]):
            self._matched += _match(subject, session, rows)
        if not self._matched:
            raise InputError(
                f"task {task}",
                "no session has two trials of one label and two of different labels at the same distance",
                f"Leave {task} out of `tasks` for this data set.",
            )
        self._weights = np.array([len(same) for same, _ in self._matched], dtype=float)
        self._weights /= self._weights.sum()

    def draw(self, rng: np.random.Generator) -> tuple[int, int, bool]:
        """Draw one pair.

        Returns
        -------
        first, second : int
            Window numbers.
        same : bool
            Whether they have one label.
        """
        same_pairs, different_pairs = self._matched[rng.choice(len(self._matched), p=self._weights)]
        same = bool(rng.random() < 0.5)
        pairs = same_pairs if same else different_pairs
        first, second = pairs[rng.integers(len(pairs))]
        if rng.random() < 0.5:
            first, second = second, first
        return self._trials.draw(first, rng), self._trials.draw(second, rng), same

    def balanced(self, number: int, seed: int) -> pd.DataFrame:
        """A fixed list of pairs, exactly half of them the same: columns first, second, same."""
        rng = np.random.default_rng([seed, number])
        wanted = {True: number // 2, False: number - number // 2}
        rows: list[tuple[int, int, bool]] = []
        while any(wanted.values()):
            first, second, same = self.draw(rng)
            if wanted[same]:
                wanted[same] -= 1
                rows.append((first, second, same))
        return pd.DataFrame(rows, columns=["first", "second", "same"])


def pairs_of(windows: Windows, task: str) -> PairSampler:
    """Make the sampler of some windows' pairs, for a task of this name."""
    return PairSampler(TrialWindows.of(windows), task)


def _match(subject: str, session: str, rows: pd.DataFrame) -> list[_Pairs]:
    """Pairs of a session's trials by distance, where both kinds exist."""
    by_distance: dict[int, _Pairs] = {}
    records = rows[["trial", "position", "label_id"]].to_numpy()
    for place, (trial_a, position_a, label_a) in enumerate(records):
        for trial_b, position_b, label_b in records[place + 1 :]:
            same, different = by_distance.setdefault(abs(int(position_b - position_a)), ([], []))
            pair = ((subject, session, trial_a), (subject, session, trial_b))
            (same if label_a == label_b else different).append(pair)
    return [pairs for pairs in by_distance.values() if pairs[0] and pairs[1]]
