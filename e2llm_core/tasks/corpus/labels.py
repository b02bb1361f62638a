"""Label sets of the text corpus: those of data sets, of other words for states, and of invented words."""

import numpy as np

from storage.labels import FACED, SEED, SEED_IV, SEED_V, SEED_VII

_SETS = (SEED_VII, SEED, SEED_IV, SEED_V, FACED)
_WORDS = (
    "rest", "arithmetic", "calm", "relaxed", "alert", "tired", "focused", "distracted", "bored", "excited", "nervous",
    "anxious", "confident", "lonely", "proud", "ashamed", "guilty", "curious", "confused", "hopeful", "jealous",
    "grateful", "content", "tense", "stressed", "drowsy", "awake", "engaged", "pleasant", "unpleasant", "low", "medium",
    "high", "positive", "negative", "neutral", "happy", "sad", "anger", "fear", "disgust", "surprise", "joy",
)  # fmt: skip
_ONSETS = (
    *"bcdfghjklmnprstvwz", "br", "ch", "cl", "cr", "dr", "fl", "gr", "pl", "pr", "sh", "sk", "sl", "sp", "st", "th",
    "tr", "wh", "",
)  # fmt: skip
_VOWELS = (*"aeiouy", "ai", "ea", "ee", "io", "oo", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "ck", "ng", "st", "t", "th", "m", "nd")
_SHARES = (0.4, 0.3, 0.3)


def drawn_labels(rng: np.random.Generator) -> tuple[str, ...]:
    """A label set: of a data set, of known words, or of invented ones, so that any set can be named later."""
    kind = rng.choice(3, p=_SHARES)
    if kind == 0:
        return tuple(str(name) for name in rng.permutation(_SETS[int(rng.integers(len(_SETS)))].names))
    number = int(rng.integers(2, 8))
    if kind == 1:
        return tuple(str(word) for word in rng.choice(_WORDS, number, replace=False))
    return tuple(dict.fromkeys(_invented(rng) for _ in range(number + 2)))


def _invented(rng: np.random.Generator) -> str:
    """A word of one to three syllables."""
    syllables = int(rng.integers(1, 4))
    return "".join(str(rng.choice(part)) for _ in range(syllables) for part in (_ONSETS, _VOWELS, _CODAS))
