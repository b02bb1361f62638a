"""The datasheet of a corpus: where it comes from, what it holds, and what it must not hold."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from e2llm_core.stages.corpus.checks import LeakCheck
from storage.corpus import Corpus

_LONGEST = 24
"""Different answers of a task beyond which they are free text, and neither kept nor listed."""


class Datasheet:
    """Counts a corpus part by part, and describes it.

    Parameters
    ----------
    corpus : Corpus
        Every part of it is there.
    check : LeakCheck
        What it must not hold.
    subject_of : mapping of str to str
        Subject of each recording.
    """

    def __init__(self, corpus: Corpus, check: LeakCheck, subject_of: Mapping[str, str]) -> None:
        self._corpus = corpus
        self.leaks: Counter[str] = Counter(dict.fromkeys(check.kinds, 0))
        self._rows: Counter[str] = Counter()
        self._answers: dict[str, Counter[str]] = {}
        self._subjects: Counter[str] = Counter()
        self._claims: Counter[str] = Counter()
        self._characters: Counter[str] = Counter()
        self._thought: Counter[str] = Counter()
        for part in corpus.parts():
            self._count(part, check, subject_of)

    def _count(self, part: pa.Table, check: LeakCheck, subject_of: Mapping[str, str]) -> None:
        rows = part.to_pylist()
        self.leaks.update(check.counted(rows))
        for row in rows:
            task = row["task"]
            self._rows[task] += 1
            answers = self._answers.setdefault(task, Counter())
            if row["answer"] in answers or len(answers) <= _LONGEST:
                answers[row["answer"]] += 1
            self._subjects.update({subject_of[window["recording_id"]] for window in row["windows"]})
            self._claims[task] += len(row["claims"])
            self._thought[task] += row["thinking"] is not None
            self._characters[task] += sum(len(row[column] or "") for column in ("user", "thinking", "answer"))

    @property
    def text(self) -> str:
        """The datasheet, in Markdown."""
        manifest = self._corpus.manifest
        source = manifest.source
        facts = {
            "rows": f"{manifest.num_rows:,} in {manifest.num_blocks} parts, {manifest.num_others:,} of them by others",
            "stage": manifest.stage,
            "seed": manifest.seed,
            "corpus": self._corpus.digest,
            "store": source.store_digest,
            "split": manifest.split_digest,
            "tower": source.encoder_digest,
            "projector's maps": manifest.reading_digest or "none that a model holds",
        } | {f"others: {name}": digest for name, digest in manifest.others.items()}
        parts = [
            "# A corpus of dialogues about EEG",
            "Written by the `corpus` job for the training of a stage, in the order of training. It holds no EEG, only "
            "the names of windows. `manifest.json` holds the settings that drew it.",
            _table(("what", "which"), facts.items()),
            "## Tasks",
            _table(
                ("task", "rows", "with a chain of thought", "claims per row", "characters per row"),
                [
                    (
                        task,
                        f"{rows:,}",
                        f"{self._thought[task]:,}",
                        f"{self._claims[task] / rows:.2f}",
                        f"{self._characters[task] / rows:.0f}",
                    )
                    for task, rows in sorted(self._rows.items())
                ],
            ),
            "## Answers",
            _table(("task", "answer", "rows"), self._balance()),
            "## Subjects",
            _table(("subject", "rows"), sorted(self._subjects.items())),
            "## What it must not hold",
            _table(("of the evaluation", "rows"), self.leaks.items()),
        ]
        return "\n\n".join(parts) + "\n"

    def _balance(self) -> list[tuple[str, str, str]]:
        rows = []
        for task, answers in sorted(self._answers.items()):
            if len(answers) > _LONGEST:
                rows.append((task, "free text", f"{self._rows[task]:,}"))
            else:
                rows += [(task, answer, f"{count:,}") for answer, count in sorted(answers.items())]
        return rows


def _table(head: tuple[str, ...], rows: object) -> str:
    lines = [head, ("---",) * len(head), *rows]  # type: ignore[misc]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
