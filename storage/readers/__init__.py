"""Readers: one per on-disk layout. Each lists its recordings, then reads them one at a time."""

from typing import Annotated

from pydantic import Field

from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.bids import BidsSource
from storage.readers.faced import FacedSource
from storage.readers.files import FilesSource, read_file
from storage.readers.seed import SeedSource
from storage.readers.seed_iv import SeedIVSource
from storage.readers.seed_v import SeedVSource
from storage.readers.seed_vii import SeedVIISource
from storage.readers.seed_vii_raw import SeedVIIRawSource
from storage.readers.tables import CsvSource

AnySource = Annotated[
    SeedVIISource
    | SeedVIIRawSource
    | SeedSource
    | SeedIVSource
    | SeedVSource
    | FacedSource
    | FilesSource
    | CsvSource
    | BidsSource,
    Field(discriminator="format"),
]

__all__ = [
    "AnySource",
    "BidsSource",
    "CsvSource",
    "FacedSource",
    "FilesSource",
    "RawRecording",
    "RecordingRef",
    "SeedIVSource",
    "SeedSource",
    "SeedVIIRawSource",
    "SeedVIISource",
    "SeedVSource",
    "Source",
    "read_file",
]
