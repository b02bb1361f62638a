"""FACED's published facts: channel order, clips and their labels.

Source: Chen et al., *Scientific Data* 10:740 (2023), its data description and pre-processing code. Signals of both
cohorts were brought to µV and to one electrode order, and clips sorted by their index, before `Processed_data` was
written.
"""

from storage.labels import FACED

SFREQ_HZ = 250.0
CLIP_SECONDS = 30
NUM_CLIPS = 28

_ORDER = "FP1 FP2 FZ F3 F4 F7 F8 FC1 FC2 FC5 FC6 CZ C3 C4 T7 T8 CP1 CP2 CP5 CP6 PZ P3 P4 P7 P8 PO3 PO4 OZ O1 O2 A2 A1"
FILE_CHANNELS: tuple[str, ...] = tuple(_ORDER.split())
"""The 32 rows of a clip; the last two are the mastoids."""

CHANNELS: tuple[str, ...] = FILE_CHANNELS[:30]
"""The scalp electrodes among them."""

CLIP_LABELS: tuple[str, ...] = tuple(label for label in FACED.names for _ in range(4 if label == "neutral" else 3))
"""Label of clip 1..28 (index 0..27): three clips of each emotion, four neutral ones."""
