"""Folders of EGI Net Station (.mff), which MNE reads with mffpy: checks that MNE leaves out."""

from pathlib import Path
from typing import Any

from storage.errors import InputError


def assert_no_averages(path: Path) -> None:
    """Refuse averages over trials, which MNE would read as a recording.

    Raises
    ------
    InputError
        When the folder's history marks its content as averages.
    """
    history = path / "history.xml"
    if not history.is_file():
        return
    from mffpy.xml_files import XML

    if XML.from_file(str(history)).mff_flavor() == "averaged":
        raise InputError(
            str(path), "holds averages over trials, not a recording", "Name the recording that they were made from."
        )


def starts(raw: Any) -> list[int]:
    """First sample of each epoch, counted in recording time: an epoch begins where the amplifier was restarted."""
    return [int(first) for first in raw._raw_extras[0]["first_samps"]]
