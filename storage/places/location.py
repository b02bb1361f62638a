"""Locations of stores, runs and models: folders of this machine or prefixes of an object store."""

from pathlib import Path

from storage.places.base import Location, is_url
from storage.places.folder import Folder
from storage.places.s3.bucket import Bucket


def locate(place: str | Path | Location) -> Location:
    """Turn a folder or an ``s3://bucket/prefix`` into a location.

    Raises
    ------
    InputError
        When the scheme is not known, the bucket is missing, or the URL carries credentials.
    """
    if isinstance(place, Location):
        return place
    if not is_url(str(place)):
        return Folder(Path(place).absolute())
    return Bucket(str(place))
