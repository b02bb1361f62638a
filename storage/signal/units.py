"""Is a signal in microvolts? Its amplitude tells a factor of a thousand."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from storage.errors import InputError

Unit = Literal["uV", "mV", "V"]
UV_PER: dict[str, float] = {"uV": 1.0, "mV": 1e3, "V": 1e6}
_VOLTAGE = re.compile(r"(|m|milli|u|mc|mu|micro|n|nano)v(olts?)?")
_PREFIXES = {"": 1e6, "m": 1e3, "milli": 1e3, "u": 1.0, "mc": 1.0, "mu": 1.0, "micro": 1.0, "n": 1e-3, "nano": 1e-3}
_OTHER = {
    "c",
    "°c",
    "k",
    "s",
    "us",
    "bs",
    "aru",
    "n",
    "g",
    "bpm",
    "%",
    "hz",
    "deg",
    "ohm",
    "kohm",
    "mmhg",
    "rad",
    "lux",
}
"""Units of what amplifiers record beside EEG."""
_MICRO = ("\u00b5", "\u03bc", "\u00c2\u00b5", "\u00ce\u00bc", "\u00e6", "\ufffd", "\u0083\u00ca")
"""The micro sign; the Greek letter; both in UTF-8 taken for Latin-1; in code page 437; lost; in Shift JIS."""
_MOST_NAMED = 4
LOWEST_UV, HIGHEST_UV = 0.5, 450.0
"""Less than a factor of 1000 apart, so that a wrong unit never turns one plausible amplitude into another."""
_TYPICAL_UV = 20.0
_FACTORS = (1e6, 1e3, 1e-3, 1e-6)


def uv_per(text: str) -> float | None:
    """µV in one of the unit that a file names, however it spells or encodes it; None when it is no voltage."""
    match = _VOLTAGE.fullmatch(_plain(text))
    return _PREFIXES[match[1]] if match else None


def is_other(text: str) -> bool:
    """Whether a unit is that of another quantity: of temperature, conductance, respiration, ..."""
    return _plain(text) in _OTHER


def _plain(text: str) -> str:
    plain = text.strip("\0 ")
    for sign in sorted(_MICRO, key=len, reverse=True):
        plain = plain.replace(sign, "u")
    return re.sub(r"[\s._-]", "", plain).lower()


def resolve_units(texts: Sequence[str], names: Sequence[str], place: str, stated: Unit | None) -> list[float]:
    """µV in one of each channel's numbers.

    Parameters
    ----------
    texts : sequence of str
        Units as the file names them; blank where it does not.
    names : sequence of str
        The channels.
    place : str
        File to name in an error.
    stated : {"uV", "mV", "V"} or None
        Unit stated by the user; it takes precedence over the file's.

    Raises
    ------
    InputError
        Naming the channels whose unit is blank or no voltage, where none is stated.
    """
    if stated is not None:
        return [UV_PER[stated]] * len(texts)
    found = [uv_per(text) for text in texts]
    lost = [place for place, factor in enumerate(found) if factor is None]
    if not lost:
        return [factor for factor in found if factor is not None]
    shown = ", ".join(names[row] for row in lost[:_MOST_NAMED]) + (" ..." if lost[_MOST_NAMED:] else "")
    words = sorted({texts[row].strip() or "none" for row in lost})
    known = sorted({text.strip() for text, factor in zip(texts, found, strict=True) if factor is not None})
    others = f" where others state {', '.join(known)}" if known else ""
    raise InputError(
        place,
        f"the unit of {shown} is {' or '.join(words)}, which is not a voltage{others}",
        "State what all its numbers are in (`source.unit: uV`), or leave these out: `source.rename: {channel: drop}`.",
    )


def assert_like_neighbours(
    pieces: Sequence[np.ndarray], factors: Sequence[float], names: Sequence[str], sfreq_hz: float, place: str
) -> None:
    """Refuse channels whose unit differs from their neighbours' and whose amplitude shows that it is wrong.

    Raises
    ------
    InputError
        When channels differ in unit and one of the rarer unit does not vary like EEG, naming it.
    """
    if len(set(factors)) == 1:
        return
    typical = [typical_amplitude([piece[row : row + 1] for piece in pieces], sfreq_hz) for row in range(len(factors))]
    like_eeg = [LOWEST_UV <= one <= HIGHEST_UV for one in typical]
    sound = Counter(factor for factor, is_like in zip(factors, like_eeg, strict=True) if is_like)
    if not sound:
        return
    usual = sound.most_common(1)[0][0]
    for name, factor, one, is_like in zip(names, factors, typical, like_eeg, strict=True):
        if factor != usual and one and not is_like:
            raise InputError(
                place,
                f"channel {name} has another unit than the others and, converted, varies by {one:.3g} µV "
                "within a second, unlike EEG",
                f"Correct its unit, or leave it out: `source.rename: {{'{name}': drop}}`.",
            )


def typical_amplitude(pieces: Sequence[np.ndarray], sfreq_hz: float) -> float:
    """Typical variation of a channel within one second, in the signal's own unit.

    Each channel is cut into seconds, each second is freed of its straight line (offset and slow drift) and its
    standard deviation is taken; the result is the median over a channel's seconds, then over channels. Seconds and
    channels without any variation do not count; 0 when none has any.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        (n_chans, n_times) each.
    sfreq_hz : float
        Sampling rate.
    """
    spreads = np.concatenate([_spread_by_second(piece, max(3, round(sfreq_hz))) for piece in pieces], axis=1)
    by_channel = [np.median(row[row > 0]) for row in spreads if (row > 0).any()]
    return float(np.median(by_channel)) if by_channel else 0.0


def _spread_by_second(piece: np.ndarray, second: int) -> np.ndarray:
    """(n_chans, n_seconds) standard deviations about each second's straight line; a short piece is one second."""
    n_chans, n_times = piece.shape
    second = min(second, n_times)
    if second < 3:  # through two samples there always is a straight line
        return np.zeros((n_chans, 1))
    cut = np.asarray(piece[:, : n_times // second * second], dtype=np.float64).reshape(n_chans, -1, second)
    time = np.linspace(-1, 1, second)
    centred = cut - cut.mean(axis=-1, keepdims=True)
    slope = centred @ time / (time @ time)
    spread = (centred - slope[..., None] * time).std(axis=-1)
    noise = 1e-9 * np.abs(cut).max(axis=-1)  # what rounding leaves of a straight line
    return np.where(spread > noise, spread, 0.0)


def assert_plausible(pieces: Sequence[np.ndarray], sfreq_hz: float, place: str, *, taken: Unit | None = None) -> None:
    """Refuse a signal whose amplitude is not that of EEG in µV.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        (n_chans, n_times) each, in µV.
    sfreq_hz : float
        Sampling rate.
    place : str
        File to name in an error.
    taken : {"uV", "mV", "V"} or None
        Unit that the file's numbers were taken to be in, where the source has a ``unit`` field to correct it.

    Raises
    ------
    InputError
        When `typical_amplitude` is outside 0.5 to 450 µV, naming the factor that would explain it; when all samples
        are 0, or every channel is a straight line.
    """
    if not any(piece.any() for piece in pieces):
        raise InputError(place, "every sample is 0", "Drop the recording, or export it again.")
    typical = typical_amplitude(pieces, sfreq_hz)
    if typical == 0.0:
        raise InputError(place, "no channel varies", "Drop the recording, or export it again.")
    if LOWEST_UV <= typical <= HIGHEST_UV:
        return
    factor = min(_FACTORS, key=lambda factor: abs(np.log(typical / factor / _TYPICAL_UV)))
    times, size = (f"{factor:,.0f}", "large") if factor > 1 else (f"{1 / factor:,.0f}", "small")
    raise InputError(
        place,
        f"a typical channel varies by {typical:.3g} µV within a second, about {times} times too {size} for EEG",
        _remedy(factor, taken),
    )


def _remedy(factor: float, taken: Unit | None) -> str:
    if taken is not None:
        for unit, uv in UV_PER.items():
            if np.isclose(uv, UV_PER[taken] / factor):
                return f"The numbers were taken for {taken}: state `source.unit: {unit}` if they are in {unit}."
    return "Correct the unit in the file, or scale its samples."
