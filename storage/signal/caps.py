"""BioSemi's caps name electrodes by connector (A1, A2, ...); which place that is depends on the cap."""

from collections.abc import Sequence
from typing import Literal

from storage.errors import InputError

Cap = Literal["biosemi16", "biosemi32", "biosemi64"]
_PER_BANK = 32


def electrodes_of(cap: Cap) -> dict[str, str]:
    """Connector -> 10-20 name, such as ``A3 -> F7`` of the 32-electrode cap.

    MNE's template lists a cap's electrodes in the order of its connectors: A1 to A32, then B1 to B32
    (https://www.biosemi.com/headcap.htm).
    """
    import mne

    names = mne.channels.make_standard_montage(cap).ch_names
    return {f"{'AB'[place // _PER_BANK]}{place % _PER_BANK + 1}": name for place, name in enumerate(names)}


def rename_connectors(names: Sequence[str], cap: Cap, place: str) -> list[str]:
    """Replace the connectors among a file's channel names by 10-20 names.

    Raises
    ------
    InputError
        When the file does not hold exactly the connectors of this cap.
    """
    electrodes = electrodes_of(cap)
    bare = [name.strip().upper().removeprefix("EEG ") for name in names]
    if missing := [connector for connector in electrodes if connector not in bare]:
        raise InputError(
            place,
            f"lacks {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''} of the cap {cap}",
            "Correct `source.montage`, or name the electrodes in `source.rename`.",
        )
    banks = {f"{bank}{number}" for bank in "ABCDEFGH" for number in range(1, _PER_BANK + 1)}
    ambiguous = {"C", "F"}  # C3 or F4 beside a whole cap may be what they say
    if foreign := [name for name in bare if name in banks - set(electrodes) and name[0] not in ambiguous]:
        raise InputError(
            place,
            f"{', '.join(foreign[:3])} is not a connector of the cap {cap}",
            "Correct `source.montage`, or name the electrodes in `source.rename`.",
        )
    return [electrodes.get(short, name) for short, name in zip(bare, names, strict=True)]
