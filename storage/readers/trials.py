"""Trials from annotations and tables."""

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
"""Texts that cannot be a person's name: a number with at most two letters before it."""


@dataclass(frozen=True)
class Stretch:
    """A labelled stretch of recording time: `start`..`stop` in seconds.

    A stretch of `fixed` length ends where the signal is interrupted; any other continues after the pause.
    """

    start: float
    stop: float
    label: str | None
    clip: int | None = None
    fixed: bool = False


class EventLabels(BaseModel):
    """Labels from the descriptions of events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_of: dict[str, str] = Field(min_length=1)
    """Description, or a regular expression that matches all of it -> label; other annotations are not trials."""
    lasts: Annotated[float, Field(gt=0)] | Literal["duration", "until-next"]
    """Length of a trial: seconds, but at most to the next pause; `duration`: that of the annotation; `until-next`: to
    the next of these annotations or the end of the recording."""

    @field_validator("label_of")
    @classmethod
    def _expressions(cls, label_of: dict[str, str]) -> dict[str, str]:
        for expression in label_of:
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"label_of {expression!r} is not a regular expression: {error}") from error
        return label_of

    def label(self, *words: str) -> str | None:
        """Label of an event with these descriptions: from an equal key, else from the first expression that matches."""
        known = {key.strip(): label for key, label in self.label_of.items()}
        equal = next((known[word] for word in words if word in known), None)
        matching = (label for key, label in self.label_of.items() for word in words if re.fullmatch(key, word))
        return equal if equal is not None else next(matching, None)

    def stretches(self, file: Continuous, place: str) -> list[Stretch]:
        """Find a file's trials.

        Raises
        ------
        InputError
            When no annotation matches, or a trial would have no duration.
        """
        named = [(note, label) for note in file.annotations if (label := self.label(*note.words)) is not None]
        if not named:
            seen = _shown([note.description for note in file.annotations])
            raise InputError(
                place,
                f"no annotation matches {', '.join(self.label_of)}; found {seen}",
                "Correct `source.labels_from.label_of`.",
            )
        ends = [note.onset for note, _ in named[1:]] + [max(file.end, named[-1][0].onset)]
        found = []
        for (note, label), end in zip(named, ends, strict=True):
            fixed = not isinstance(self.lasts, str)
            if isinstance(self.lasts, str):
                seconds = note.seconds if self.lasts == "duration" else end - note.onset
            else:
                seconds = self.lasts
            if round(seconds * file.sfreq_hz) <= 0:
                raise InputError(
                    place,
                    f"the annotation at {note.onset:.3f} s has no duration",
                    "Set `source.labels_from.lasts` to seconds or to until-next.",
                )
            found.append(Stretch(note.onset, note.onset + seconds, label, fixed=fixed))
        return found


def _shown(descriptions: Sequence[str]) -> str:
    """Say how many descriptions there are, and list only codes: free text may hold a person's name."""
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
    """Turn labelled stretches into trials of a file's pieces.

    A stretch across a pause becomes one trial on each side; one of fixed length ends at the pause. A stretch that
    begins before or ends after the recording, or of which nothing was recorded, is left out and named in the provenance
    (`trials_outside`); a stretch that was recorded only in part is named there as well (`trials_cut`). Trials of a
    session's p-th file are numbered from 10,000 · (p - 1) + 1 on, and a trial's number is also its position: it
    increases over the session, however many trials each file has.

    Raises
    ------
    InputError
        When two stretches overlap, none lies within the signal, or one covers a time that was recorded twice.
    """
    place = str(ref.path)
    ordered = sorted(stretches, key=lambda stretch: stretch.start)
    found = [_parts(file, stretch, place) for stretch in ordered]
    _assert_apart(file, ordered, found, place)
    spans: list[TrialSpan] = []
    outside, shortened = [], []
    count = 0
    for stretch, parts in zip(ordered, found, strict=True):
        name = f"{stretch.label} at {stretch.start:.3f} s"
        wanted = round((stretch.stop - stretch.start) * file.sfreq_hz)
        count += bool(parts)
        if not parts:
            outside.append(name)
        elif (kept := sum(stop - start for _, start, stop in parts)) < wanted - 1:
            shortened.append(f"{name}: {kept / file.sfreq_hz:.3f} of {wanted / file.sfreq_hz:.3f} s")
        for piece, start, stop in parts:
            number = (ref.position - 1) * _TRIALS_PER_FILE + len(spans) + 1
            clip = stretch.clip if stretch.clip is not None else (ref.position - 1) * _TRIALS_PER_FILE + count
            if spans and spans[-1].piece == piece:  # after rounding, they may share a sample
                start = max(start, spans[-1].stop)
            if start < stop:
                spans.append(TrialSpan(piece, start, stop, number, number, clip, stretch.label))
    if not spans:
        raise InputError(
            place, f"none of its {len(ordered)} trials lies within its {file.end:g} s", "Shorten or correct them."
        )
    provenance = file.provenance | {"trials_outside": _noted(outside)}
    if shortened:
        provenance |= {"trials_cut": _noted(shortened)}
    return replace(file, provenance=provenance).cut(spans)


def whole_pieces(file: Continuous, label: str | None, ref: RecordingRef) -> RawRecording:
    """Make the whole file one trial per piece, regardless of the times of the pieces."""
    first = (ref.position - 1) * _TRIALS_PER_FILE + 1
    spans = [
        TrialSpan(number, 0, piece.num_samples, first + number, first + number, ref.position, label)
        for number, piece in enumerate(file.pieces)
    ]
    return replace(file, provenance=file.provenance | {"trials_outside": []}).cut(spans)


def _parts(file: Continuous, stretch: Stretch, place: str) -> list[tuple[int, int, int]]:
    """Locate a stretch as (piece, start, stop) in samples of the piece; empty if it is to be left out."""
    half = 0.5 / file.sfreq_hz
    found = []
    for number, piece in enumerate(file.pieces):
        first = piece.sample(stretch.start)
        if stretch.fixed:
            if not 0 <= first < piece.num_samples:
                continue
            last = first + round((stretch.stop - stretch.start) * file.sfreq_hz)
            is_last = piece.end >= file.end - half
            if is_last and last > piece.num_samples:
                return []
        elif first < 0:  # it began before this piece, whose times may overlap those of the previous one
            last = piece.sample(stretch.stop)
        else:
            last = first + round((stretch.stop - stretch.start) * piece.num_samples / piece.seconds)
        start, stop = max(0, first), min(last, piece.num_samples)
        if start < stop:
            found.append((number, start, stop))
    beginning = min(piece.onset for piece in file.pieces)
    if not stretch.fixed and (stretch.start < beginning - half or stretch.stop > file.end + half):
        return []
    touched = sorted((file.pieces[number].onset, file.pieces[number].end) for number, _, _ in found)
    for (_, end), (onset, _) in pairwise(touched):
        if onset < end - 1.5 / file.sfreq_hz:
            raise InputError(
                place,
                f"its time goes back, and {stretch.label} at {stretch.start:.3f} s was recorded twice",
                "Split the file where its clock was changed, or take the labels from elsewhere (`source.labels_from`).",
            )
    return found


def _assert_apart(
    file: Continuous, ordered: Sequence[Stretch], found: Sequence[list[tuple[int, int, int]]], place: str
) -> None:
    for (one, parts), (two, others) in pairwise(zip(ordered, found, strict=True)):
        stop = one.stop
        if one.fixed and parts:  # it may have ended earlier, where the signal is interrupted
            number, _, last = parts[0]
            piece = file.pieces[number]
            stop = min(stop, piece.part(piece.start, piece.start + last).end)
        doubled = {(piece, start) for piece, start, _ in parts} & {(piece, start) for piece, start, _ in others}
        if two.start < stop - 1.01 / file.sfreq_hz or doubled:
            raise InputError(
                place,
                f"trials overlap: {one.label} until {stop:.3f} s, {two.label} from {two.start:.3f} s",
                "Shorten them (`source.labels_from.lasts`), or correct the table.",
            )


def _noted(names: Sequence[str]) -> list[str]:
    return [*names[:_NOTED], *(["..."] if names[_NOTED:] else [])]
