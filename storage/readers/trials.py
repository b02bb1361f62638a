"""From annotations and tables to trials."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage.errors import InputError
from storage.readers.base import RawRecording, RecordingRef, TrialSpan
from storage.readers.mne_file import Continuous

_TRIALS_PER_FILE = 10_000
_NOTED = 20
_SHOWN = 6
_CODE = re.compile(r"((Stimulus|Response|Trigger|Event|Marker)/ *)?[A-Za-z]{0,2} *\d{1,5}")
"""What a person's name cannot be: a number, with two letters before it at most."""


@dataclass(frozen=True)
class Stretch:
    """A labelled stretch of a file as read: `start`..`stop` in samples, `stop` excluded."""

    start: int
    stop: int
    label: str | None
    clip: int | None = None


class EventLabels(BaseModel):
    """Labels from what events are described by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_of: dict[str, str] = Field(min_length=1)
    """Description, or a regular expression for all of it -> label; other annotations are no trials."""
    lasts: Annotated[float, Field(gt=0)] | Literal["duration", "until-next"]
    """Seconds that a trial lasts; as long as the annotation; until the next of these annotations or the end."""

    @field_validator("label_of")
    @classmethod
    def _expressions(cls, label_of: dict[str, str]) -> dict[str, str]:
        for expression in label_of:
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"label_of {expression!r} is not a regular expression: {error}") from error
        return label_of

    def label(self, description: str) -> str | None:
        """Label of a description: by the equal key, or by the first expression that matches all of it."""
        if description in self.label_of:
            return self.label_of[description]
        matching = (label for key, label in self.label_of.items() if re.fullmatch(key, description))
        return next(matching, None)

    def stretches(self, file: Continuous, place: str) -> list[Stretch]:
        """Find a file's trials.

        Raises
        ------
        InputError
            When no annotation matches, or one that must last has no duration.
        """
        named = [(note, label) for note in file.annotations if (label := self.label(note.description)) is not None]
        if not named:
            seen = _shown([note.description for note in file.annotations])
            raise InputError(
                place,
                f"no annotation is one of {', '.join(self.label_of)}; there are {seen}",
                "Correct `source.labels_from.label_of`.",
            )
        ends = [note.start for note, _ in named[1:]] + [file.signal_uv.shape[1]]
        found = []
        for (note, label), end in zip(named, ends, strict=True):
            length = {"duration": note.length, "until-next": end - note.start}.get(str(self.lasts))
            if length is None:
                length = round(float(self.lasts) * file.sfreq_hz)
            if length <= 0:
                raise InputError(
                    place,
                    f"the annotation at {note.start / file.sfreq_hz:.3f} s has no duration",
                    "Set `source.labels_from.lasts` to seconds or to until-next.",
                )
            found.append(Stretch(note.start, note.start + length, label))
        return found


def _shown(descriptions: Sequence[str]) -> str:
    """Number of descriptions and those that are codes: free text may hold a person's name."""
    different = list(dict.fromkeys(descriptions))
    codes = [description for description in different if _CODE.fullmatch(description)]
    text = f"{len(different)} others" if different else "none"
    if codes:
        text += f", among them {', '.join(codes[:_SHOWN])}"
    return text


class AnnotationLabels(EventLabels):
    """Labels from a file's annotations (BIDS: from the ``trial_type`` of its events)."""

    kind: Literal["annotations"] = "annotations"


def trials_of(file: Continuous, stretches: Sequence[Stretch], ref: RecordingRef) -> RawRecording:
    """Put labelled stretches into a file's pieces.

    A stretch over a gap becomes one trial on each side. One that begins before or ends behind the signal is left out
    and named in the provenance. Trials of a session's p-th file are numbered from 10,000 · (p - 1) + 1 on, and their
    number is their position: it increases over the session, however many trials each of its files has.

    Raises
    ------
    InputError
        When two stretches overlap or none lies within the signal.
    """
    place, n_times = str(ref.path), file.signal_uv.shape[1]
    ordered = sorted(stretches, key=lambda stretch: stretch.start)
    for one, two in pairwise(ordered):
        if two.start < one.stop:
            raise InputError(
                place,
                f"trials overlap: {one.label} until {one.stop / file.sfreq_hz:.3f} s, "
                f"{two.label} from {two.start / file.sfreq_hz:.3f} s",
                "Shorten them (`source.labels_from.lasts`), or correct the table.",
            )
    whole = [stretch for stretch in ordered if stretch.start >= 0 and stretch.stop <= n_times]
    outside = [
        f"{stretch.label} at {stretch.start / file.sfreq_hz:.3f} s" for stretch in ordered if stretch not in whole
    ]
    spans: list[TrialSpan] = []
    for count, stretch in enumerate(whole, start=1):
        for piece, (first, last) in enumerate(file.pieces):
            start, stop = max(first, stretch.start), min(last, stretch.stop)
            if start < stop:
                number = (ref.position - 1) * _TRIALS_PER_FILE + len(spans) + 1
                clip = stretch.clip if stretch.clip is not None else (ref.position - 1) * _TRIALS_PER_FILE + count
                spans.append(TrialSpan(piece, start - first, stop - first, number, number, clip, stretch.label))
    if not spans:
        raise InputError(
            place, f"none of its {len(ordered)} trials lies within its {n_times / file.sfreq_hz:g} s", "Shorten them."
        )
    provenance = file.provenance | {"trials_outside": [*outside[:_NOTED], *(["..."] if outside[_NOTED:] else [])]}
    return replace(file, provenance=provenance).cut(spans)
