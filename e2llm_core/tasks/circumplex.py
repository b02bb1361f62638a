"""The affective circumplex: where the states that labels name lie in valence and arousal (Russell, 1980)."""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.errors import InputError

_MIDDLE = 0.2
"""Distance from 0 within which a state is neither the one nor the other."""


@dataclass(frozen=True)
class Affect:
    """A state's place, each coordinate from -1 to 1.

    Attributes
    ----------
    valence : float
        From unpleasant to pleasant.
    arousal : float
        From calm to aroused.
    """

    valence: float
    arousal: float

    @property
    def tone(self) -> int | None:
        """1 where the state is pleasant, -1 where it is unpleasant, None where it is neither."""
        return None if abs(self.valence) < _MIDDLE else 1 if self.valence > 0 else -1

    @property
    def words(self) -> str:
        """Both coordinates in words."""
        tone = _side(self.valence, "unpleasant", "pleasant")
        return f"{tone} and {_side(self.arousal, 'calm', 'aroused')}"


AFFECTS: dict[str, Affect] = {
    "happy": Affect(0.81, 0.51),
    "surprise": Affect(0.40, 0.67),
    "neutral": Affect(0.0, 0.0),
    "anger": Affect(-0.51, 0.59),
    "disgust": Affect(-0.60, 0.35),
    "sad": Affect(-0.63, -0.27),
    "fear": Affect(-0.64, 0.60),
}
"""Mean ratings of words for states (Russell and Mehrabian, 1977), without dominance; neutral is the origin.

Reprints of the table disagree over the sign of the arousal of *sad*; most have it below 0, as here.
"""


def affects_of(labels: Sequence[str], place: str) -> tuple[Affect, ...]:
    """Where each label lies.

    Parameters
    ----------
    labels : sequence of str
        Class names of a data set.
    place : str
        Setting to name in an error.

    Raises
    ------
    InputError
        When one of them has none.
    """
    unknown = [label for label in labels if label not in AFFECTS]
    if unknown:
        raise InputError(
            place,
            f"no valence and arousal are known of {', '.join(unknown)}",
            f"Use a data set of {', '.join(AFFECTS)}, or leave it out.",
        )
    return tuple(AFFECTS[label] for label in labels)


def _side(value: float, below: str, above: str) -> str:
    if abs(value) < _MIDDLE:
        return f"neither {above} nor {below}"
    return above if value > 0 else below
