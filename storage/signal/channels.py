"""Channel names: the field's spellings brought to one (10-05 system, upper case)."""

import re
from collections.abc import Mapping, Sequence

from storage.errors import InputError
from storage.signal.caps import Cap, rename_connectors

_SEED_ORDER = (
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 "
    "CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ "
    "PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
)
SEED_CHANNELS: tuple[str, ...] = tuple(_SEED_ORDER.split())
"""The 62 channels of the SEED family, in file order."""

_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_KNOWN = re.compile(
    r"^((AFP?|AFF|F|P|PPO|PO|POO)(([1-9]|10)H?|Z)|(FFT|FT|FTT|T|TTP|TP|TPP)([7-9]|10)H?"
    r"|(FFC|FC|FCC|C|CCP|CP|CPP)([1-6]H?|Z)|(FP|O|OI|I)([12]H?|Z)|CB[12])$"
)
"""The positions of MNE's 10-05 template but for ears and mastoids, and SEED's two over the cerebellum."""
_NUMBERED = re.compile(r"-\d+$")
_BIOSEMI = re.compile(r"^(?:EEG )?[ABDG]([3-9]|[12][0-9]|3[0-2])$")
"""Positions of BioSemi's own caps (A1..H32). Their C1, F3 and I1 are not the 10-05 system's."""


def canonical_channel(name: str) -> str | None:
    """Bring one channel name to its 10-05 spelling in upper case.

    ``'EEG Fp1-Ref' -> 'FP1'``, ``'Fc5.' -> 'FC5'``, ``'T3' -> 'T7'``. Returns ``None`` for what is not a
    scalp electrode of the 10-05 system (``'EEG A2-A1'``, ``'ECG ECG'``, ``'Status'``).
    """
    bare = re.sub(r"^EEG[\s.]+", "", name.strip(), flags=re.IGNORECASE).rstrip(".")
    bare = re.sub(r"-(REF|LE|A1|A2|M1|M2|AVG|AV|CAR)$", "", bare, flags=re.IGNORECASE).upper()
    bare = _OLD_NAMES.get(bare, bare)
    return bare if _KNOWN.match(bare) else None


def select_eeg(
    names: Sequence[str],
    place: str,
    *,
    types: Sequence[str] | None = None,
    montage: Cap | None = None,
    rename: Mapping[str, str] | None = None,
) -> tuple[list[int], list[str]]:
    """Pick the scalp EEG channels out of a file's channels.

    Parameters
    ----------
    names : sequence of str
        All channels of the file.
    place : str
        File to name in an error.
    types : sequence of str, optional
        MNE's type of each channel; only ``eeg`` is kept, unless `rename` names the channel.
    montage : {"biosemi16", "biosemi32", "biosemi64"}, optional
        Cap whose connectors the file names.
    rename : mapping, optional
        The file's name -> name of the 10-05 system; goes before everything else.

    Returns
    -------
    rows : list of int
        Positions of the kept channels in `names`.
    channels : list of str
        Their canonical names.

    Raises
    ------
    InputError
        When no channel is a scalp electrode, two have the same canonical name, `rename` names a channel that is not
        there, or the names are those of a BioSemi cap, whose C1 or F3 lie elsewhere than the 10-05 system's.
    """
    rename = rename or {}
    if unknown := [name for name in rename if name not in names]:
        raise InputError(place, f"has no channel {unknown[0]!r}", "Correct `source.rename`.")
    shown = [rename.get(name, name) for name in names]
    if montage is not None:
        shown = rename_connectors(shown, montage, place)
    _assert_no_cap(shown, place)
    _assert_no_twins(names, rename, place)
    typed = [types is None or types[row] == "eeg" or name in rename for row, name in enumerate(names)]
    pairs = [(row, canonical_channel(name)) for row, name in enumerate(shown) if typed[row]]
    rows = [row for row, channel in pairs if channel is not None]
    channels = [channel for _, channel in pairs if channel is not None]
    if not channels:
        raise InputError(
            place,
            f"no channel name of the 10-05 system among {list(names)[:6]}",
            "Name the electrodes in `source.rename`, or a BioSemi cap in `source.montage`.",
        )
    double = {channel for channel in channels if channels.count(channel) > 1}
    if double:
        raise InputError(
            place, f"channels named twice: {sorted(double)}", "Rename one of each pair in `source.rename`."
        )
    return rows, channels


def _assert_no_twins(names: Sequence[str], rename: Mapping[str, str], place: str) -> None:
    """Refuse equal names, which MNE tells apart as C3-0 and C3-1, unless `rename` says which is which."""
    stems = [_NUMBERED.sub("", name) for name in names]
    for stem in dict.fromkeys(stems):
        twins = [name for name, other in zip(names, stems, strict=True) if other == stem and name not in rename]
        if len(twins) > 1 and canonical_channel(stem) is not None:
            raise InputError(
                place,
                f"channels named twice: {len(twins)} are called {stem}",
                f"Say which to leave out: `source.rename: {{'{twins[-1]}': drop, '{twins[0]}': {stem}}}`.",
            )


def _assert_no_cap(shown: Sequence[str], place: str) -> None:
    if biosemi := [name for name in shown if _BIOSEMI.match(name.strip().upper())]:
        raise InputError(
            place,
            f"channels {', '.join(biosemi[:3])} ... are positions of a BioSemi cap, not 10-05 names",
            "State the cap (`source.montage: biosemi16`, `biosemi32`, `biosemi64`) or each name in `source.rename`.",
        )


def check_renames(rename: Mapping[str, str]) -> None:
    """Raise `ValueError` when a new name is not an electrode of the 10-05 system and not ``drop``."""
    for old, new in rename.items():
        if new != DROP and canonical_channel(new) is None:
            raise ValueError(f"rename {old!r}: {new!r} is not an electrode of the 10-05 system; `{DROP}` leaves it out")


DROP = "drop"
"""As a new name: leave the channel out."""


REGIONS: tuple[str, ...] = (
    "left frontal",
    "right frontal",
    "central",
    "left temporal",
    "right temporal",
    "parietal",
    "occipital",
)
"""Scalp regions in which band power is described, in a fixed order."""


def region_of(channel: str) -> str:
    """Region of a canonical channel name: by its letters, and by odd (left) or even (right) number."""
    parts = re.fullmatch(r"([A-Z]+?)(\d+|Z)H?", channel)
    letters, digits = parts.groups() if parts else (channel, "")
    left = digits.isdigit() and int(digits) % 2 == 1
    if letters in {"FP", "AFP", "AF", "AFF", "F", "FFT", "FFC"}:
        if digits == "Z":
            return "central"
        return "left frontal" if left else "right frontal"
    if letters in {"FT", "FTT", "T", "TTP", "TP", "TPP"} or channel in {"P7", "P9"} or channel in {"P8", "P10"}:
        return "left temporal" if left else "right temporal"
    if letters in {"FC", "FCC", "C", "CCP"}:
        return "central"
    if letters in {"CP", "CPP", "P", "PPO"}:
        return "parietal"
    return "occipital"
