"""Readers: one per on-disk layout. Each lists its recordings, then reads them one at a time."""

from typing import Annotated

from pydantic import Field

from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.files import FilesSource, read_file
from storage.readers.seed_vii import SeedVIISource

AnySource = Annotated[SeedVIISource | FilesSource, Field(discriminator="format")]

__all__ = ["AnySource", "FilesSource", "RawRecording", "RecordingRef", "SeedVIISource", "Source", "read_file"]
