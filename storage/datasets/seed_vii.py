"""SEED-VII's published facts: clip order, folds, on-disk words.

Source: the data set's `emotion_label_and_stimuli_order.xlsx` as described on its official page; the counts
(12 clips of each of six emotions, 8 neutral) and the four official folds are asserted by tests.
"""

import numpy as np

from storage.labels import SEED_VII

NUM_SUBJECTS = 20
NUM_SESSIONS = 4
TRIALS_PER_SESSION = 20
SFREQ_HZ = 200.0
CONTINUOUS_LABEL_SECONDS = 4.0

WORDS = {
    "Disgust": "disgust",
    "Fear": "fear",
    "Sad": "sad",
    "Neutral": "neutral",
    "Happy": "happy",
    "Anger": "anger",
    "Surprise": "surprise",
}
"""The workbook's words and our label names."""

_LETTERS = dict(zip("DFSNHAU", SEED_VII.names, strict=True))
_ORDER = (
    "HNDSA ASDNH HNDSA ASDNH",
    "ASFNU UNFSA ASFNU UNFSA",
    "HUDFA AFDUH HUDFA AFDUH",
    "DSFUH HUFSD DSFUH HUFSD",
)
CLIP_LABELS: tuple[str, ...] = tuple(_LETTERS[letter] for session in _ORDER for letter in session.replace(" ", ""))
"""Label of clip 1..80 (index 0..79)."""


def clip_of(session: int, position: int) -> int:
    """Clip id 1..80 shown at `position` 1..20 of `session` 1..4."""
    return (session - 1) * TRIALS_PER_SESSION + position


def session_of(clip: int) -> int:
    """Session 1..4 in which clip 1..80 is shown."""
    return (clip - 1) // TRIALS_PER_SESSION + 1


def fold_of(clip: int) -> int:
    """Official fold 1..4 of a clip: five consecutive positions of each session."""
    return ((clip - 1) % TRIALS_PER_SESSION) // 5 + 1


def num_continuous_labels(n_times: int, sfreq_hz: float = SFREQ_HZ) -> int:
    """Count the continuous-label values of a clip: one per full 4-s window."""
    return int(np.floor(n_times / sfreq_hz / CONTINUOUS_LABEL_SECONDS))
