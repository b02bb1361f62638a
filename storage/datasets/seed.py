"""Published facts of SEED, SEED-IV and SEED-V: clip order, labels, and where SEED-V's clips lie in its recordings.

Sources: the data sets' pages at bcmi.sjtu.edu.cn/home/seed (15 film clips shown in all three sessions of SEED; 72
clips, 24 a session, of SEED-IV; SEED-V's sessions are numbered by the clips watched), SEED's `label.mat`, SEED-IV's
`ReadMe.txt`, and SEED-V's `trial_start_end_timestamp.txt` and label workbook as several public loaders repeat them.
Where the user's copy holds `label.mat`, `ReadMe.txt` or the times, the readers compare them with these tables.
"""

from storage.labels import SEED, SEED_IV, SEED_V, LabelSet

NUM_SESSIONS = 3


def _names(label_set: LabelSet, ids: str) -> tuple[str, ...]:
    return tuple(label_set.names[int(digit)] for digit in ids.replace(" ", ""))


SEED_LABELS: tuple[str, ...] = _names(SEED, "210 012 012 210 120")
"""Label of SEED's clip 1..15 (index 0..14), the same in every session."""

SEED_IV_LABELS: tuple[tuple[str, ...], ...] = (
    _names(SEED_IV, "123020 010121 112322 330303"),
    _names(SEED_IV, "213002 023323 201121 030131"),
    _names(SEED_IV, "122133 311210 233023 002010"),
)
"""Labels of SEED-IV's 24 clips, by session."""

SEED_V_LABELS: tuple[tuple[str, ...], ...] = (
    _names(SEED_V, "41320 41320 41320"),
    _names(SEED_V, "21304 40321 34120"),
    _names(SEED_V, "21304 40321 34120"),
)
"""Labels of SEED-V's 15 clips, by session; sessions 2 and 3 have other clips in the same order of emotions."""

SEED_V_STARTS: tuple[tuple[int, ...], ...] = (
    (30, 132, 287, 555, 773, 982, 1271, 1628, 1730, 2025, 2227, 2435, 2667, 2932, 3204),
    (30, 299, 548, 646, 836, 1000, 1091, 1392, 1657, 1809, 1966, 2186, 2333, 2490, 2741),
    (30, 353, 478, 674, 825, 908, 1200, 1346, 1451, 1711, 2055, 2307, 2457, 2726, 2888),
)
"""Second of the recording at which each of SEED-V's clips starts, by session."""

SEED_V_STOPS: tuple[tuple[int, ...], ...] = (
    (102, 228, 524, 742, 920, 1240, 1568, 1697, 1994, 2166, 2401, 2607, 2901, 3172, 3359),
    (267, 488, 614, 773, 967, 1059, 1331, 1622, 1777, 1908, 2153, 2302, 2428, 2709, 2817),
    (321, 418, 643, 764, 877, 1147, 1284, 1418, 1679, 1996, 2275, 2425, 2664, 2857, 3066),
)
"""Second at which each of SEED-V's clips ends, by session."""
