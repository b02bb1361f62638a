"""Out of the store again: MNE objects in memory, and folders that MNE, braindecode, BIDS and EDF tools read."""

from storage.export.mne_objects import to_epochs, to_raw
from storage.export.run import FORMATS, Outcome, export_store

__all__ = ["FORMATS", "Outcome", "export_store", "to_epochs", "to_raw"]
