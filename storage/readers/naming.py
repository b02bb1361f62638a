"""Recording ids built from the groups that a pattern matches in file names; the names themselves are never used."""

import re
from collections import defaultdict
from pathlib import Path

from storage.errors import InputError
from storage.readers.base import Listing, RecordingRef, is_there
from storage.readers.companions import whole_of


def check_pattern(pattern: str) -> str:
    """Raise `ValueError` unless `pattern` is a regular expression with the group ``subject``."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if "subject" not in groups:
        raise ValueError("needs a group (?P<subject>...)")
    return pattern


def group_of(pattern: str, path: Path, group: str) -> str | None:
    """Text that one group of the pattern matches in a file's name; None if there is none."""
    match = re.fullmatch(pattern, path.name)
    return match.groupdict().get(group) if match else None


def recording_id(subject: str, session: str, run: str | int, path: Path) -> str:
    """Build ``sub-<subject>_ses-<session>_run-<run>``, keeping only letters and digits of each value.

    Raises
    ------
    InputError
        When a value has neither.
    """
    entities = {"sub": subject, "ses": session, "run": str(run)}
    plain = {key: re.sub(r"[^A-Za-z0-9]", "", value) for key, value in entities.items()}
    for key, value in plain.items():
        if not value:
            raise InputError(
                str(path), f"its {key} {entities[key]!r} contains no letter or digit", "Correct `source.pattern`."
            )
    return "_".join(f"{key}-{value}" for key, value in plain.items())


def list_matching(root: Path, pattern: str) -> Listing:
    """Match the names of the files in a folder, including subfolders, against a pattern.

    A file's position in its session follows from sorting by the group ``run``, if there is one, and then by name.
    A file that is read as part of another matching file (samples of a header, a later part of a split FIF) is left out.
    A broken link is listed, so that reading it reports the missing content.

    Raises
    ------
    InputError
        When nothing matches, or two files would have the same id.
    """
    sessions: dict[tuple[str, str], list[tuple[str | None, Path]]] = defaultdict(list)
    matching = {path: match for path in root.glob("**/*") if (match := re.fullmatch(pattern, path.name))}
    left_out = []
    for path, match in sorted(matching.items(), key=lambda item: (item[0].name, item[0])):
        if (head := whole_of(path)) is not None and head in matching:
            left_out.append(f"{path}: is read as part of {head.name}")
        elif is_there(path):
            groups = match.groupdict()
            files = sessions[groups["subject"], groups.get("session") or "1"]
            if twins := [other for _, other in files if other.name == path.name]:
                raise InputError(
                    str(path), f"has the same name as {twins[0]}", "Rename one, or narrow `source.pattern`."
                )
            files.append((groups.get("run"), path))
    refs = []
    for (subject, session), files in sessions.items():
        ordered = sorted(files, key=lambda file: natural(file[0] or ""))
        for position, (run, path) in enumerate(ordered, start=1):
            name = recording_id(subject, session, run or position, path)
            refs.append(RecordingRef(name, subject, session, path, position))
    if not refs:
        raise InputError(str(root), f"no file matches {pattern!r}", "Correct `source.root` or `source.pattern`.")
    assert_distinct(refs)
    return Listing(refs, tuple(left_out))


def assert_distinct(
    refs: list[RecordingRef],
    remedy: str = "Distinguish them by the groups subject, session and run of `source.pattern`.",
) -> None:
    """Refuse two files with the same id, naming both."""
    seen: dict[str, RecordingRef] = {}
    for ref in refs:
        if (other := seen.setdefault(ref.recording_id, ref)) is not ref:
            raise InputError(
                str(ref.path),
                f"has the same id as {other.path}: {ref.recording_id}",
                remedy,
            )


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers in a text by value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
