"""EEG in Zarr: ingest of real formats, recordings, trials, windows, splits and sampling order."""

from storage.errors import InputError
from storage.labels import SEED_VII, LabelSet
from storage.store import RecordingInfo, Store, Trial, create_store, open_store

__all__ = [
    "SEED_VII",
    "InputError",
    "LabelSet",
    "RecordingInfo",
    "Store",
    "Trial",
    "create_store",
    "open_store",
]
