"""Export a store: MNE objects in memory, and folders for MNE, braindecode, BIDS and EDF tools."""

from storage.export.mne_objects import to_epochs, to_raw
from storage.export.run import FORMATS, Outcome, export_store

__all__ = ["FORMATS", "Outcome", "export_store", "to_epochs", "to_raw"]
