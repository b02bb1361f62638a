"""Sets of segments of one person and session, each of another group of labels, and the tasks about them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows, Sampler
from e2llm_core.tasks.facts import CLAIMS_PER_RATIONALE
from e2llm_core.tasks.notes import drawn_segment_of
from e2llm_core.tasks.task import TrainedTask
from e2llm_core.tasks.trials import TrialWindows
from storage.errors import InputError
from storage.labels import SEED_VII
from storage.windows import Windows


class SegmentSets:
    """Draws sets of windows of one session, each of another group of labels.

    Sessions, groups of a session, trials of a group and windows of a trial are drawn uniformly.

    Parameters
    ----------
    windows : Windows
        Windows of one side of a split.
    group_of : mapping of str to int
        Group of each label.
    number : int
        Windows of a set.
    task : str
        Whose sets they are.

    Raises
    ------
    InputError
        When no session has trials of that many groups.
    """

    def __init__(self, windows: Windows, group_of: Mapping[str, int], number: int, task: str) -> None:
        self._trials, self._number = TrialWindows.of(windows), number
        sessions = self._trials.by_session(group_of.__getitem__)
        self._sessions = [groups for groups in sessions if len(groups) >= number]
        if not self._sessions:
            raise InputError(
                f"task {task}",
                f"no session has trials of {number} states that it tells apart",
                f"Leave {task} out of `tasks` for this data set.",
            )

    def draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Draw the windows of a set, in ascending order of their groups."""
        groups = self._sessions[rng.integers(len(self._sessions))]
        chosen = np.sort(rng.choice(sorted(groups), self._number, replace=False))
        trials = (groups[group][rng.integers(len(groups[group]))] for group in chosen.tolist())
        return tuple(self._trials.draw(trial, rng) for trial in trials)


class SetTask(TrainedTask, CorpusForm):
    """A task about three segments in any order, which its question calls A, B and C."""

    num_segments = 3
    corpus_share = 0.25

    @abstractmethod
    def groups(self, labels: Sequence[str]) -> Mapping[str, int]:
        """Group of each label; the segments of a set are of different groups."""

    @abstractmethod
    def told(self, labels: Sequence[str], rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        """A dialogue about segments of these labels, which texts may stand for."""

    def corpus_labels(self, labels: Sequence[str]) -> Sequence[str]:
        """Labels that the text corpus asks about, given those that it speaks of."""
        return labels if len(labels) >= self.num_segments else SEED_VII.names

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """The answer about the windows; a chain of thought names their labels first."""
        return self.told([source.label(window) for window in windows], rng)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same of segments in note form."""
        of_group: dict[int, list[str]] = {}
        for label, group in self.groups(self.corpus_labels(labels)).items():
            of_group.setdefault(group, []).append(label)
        groups = rng.permutation(len(of_group))[: self.num_segments]
        drawn = [str(rng.choice(list(of_group.values())[group])) for group in groups]
        texts = [drawn_segment_of(label, rng, CLAIMS_PER_RATIONALE).text for label in drawn]
        return self.told(drawn, rng, texts)

    def sets(self, source: Windows) -> SegmentSets:
        """The sets of one side of a split; raises InputError as `SegmentSets`."""
        labels = sorted(source.trials["label"].unique())
        return SegmentSets(source, self.groups(labels), self.num_segments, self.name)

    def sampler(self, source: Windows) -> Sampler:
        """Sets in any order, whichever window's turn it is."""
        sets = self.sets(source)
        return lambda window, rng: tuple(rng.permutation(sets.draw(rng)).tolist())
