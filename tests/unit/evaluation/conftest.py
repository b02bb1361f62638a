from __future__ import annotations

import itertools

import pandas as pd
import pytest

SEED_VII_NAMES = ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise")
_LETTERS = dict(zip("DFSNHAU", SEED_VII_NAMES, strict=True))
_ORDER = (
    "HNDSA ASDNH HNDSA ASDNH",
    "ASFNU UNFSA ASFNU UNFSA",
    "HUDFA AFDUH HUDFA AFDUH",
    "DSFUH HUFSD DSFUH HUFSD",
)


def seed_vii_trials(n_subjects: int) -> pd.DataFrame:
    """Trials in the published clip order, which is the same for every subject."""
    rows, labels = [], []
    for subject, (session, letters) in itertools.product(range(1, n_subjects + 1), enumerate(_ORDER, start=1)):
        for position, letter in enumerate(letters.replace(" ", ""), start=1):
            clip = 20 * (session - 1) + position
            rows.append(
                {
                    "recording_id": f"{subject:02d}-{session}",
                    "subject": f"{subject:02d}",
                    "session": session,
                    "trial": clip,
                    "clip": clip,
                    "start": 0,
                    "stop": 800,
                    "position": position,
                }
            )
            labels.append(_LETTERS[letter])
    ids = [f"{int(row['subject'])}-{row['clip']}" for row in rows]
    return pd.DataFrame(rows).assign(item_id=ids, label=labels, segments=[[row] for row in rows])


def pairs_of(trials: pd.DataFrame) -> pd.DataFrame:
    """All pairs of different trials of a subject and session that start at an odd position, balanced."""
    rows = []
    for (subject, session), group in trials.groupby(["subject", "session"]):
        members = list(group.itertuples())
        same, different = [], []
        for first, second in itertools.combinations(members, 2):
            (same if first.label == second.label else different).append((first, second))
        for name, chosen in (("same", same[:12]), ("different", different[::7][:12])):
            for first, second in chosen:
                rows.append(
                    {
                        "item_id": f"{subject}-{session}-{first.trial}-{second.trial}",
                        "subject": subject,
                        "session": session,
                        "segments": [*first.segments, *second.segments],
                        "label": name,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def trials() -> pd.DataFrame:
    return seed_vii_trials(6)


@pytest.fixture(scope="session")
def pairs(trials: pd.DataFrame) -> pd.DataFrame:
    return pairs_of(trials)


@pytest.fixture(scope="session")
def names() -> tuple[str, ...]:
    return SEED_VII_NAMES
