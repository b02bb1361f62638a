"""The store that zarr-python writes to on S3."""

import asyncio
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from storage.places.base import Location


class PatientObjectStore(ObjectStore[Any]):
    """Reads and writes objects with the patience of their bucket.

    Parameters
    ----------
    bucket : Location
        The root of the store.
    client : S3Store
        Client of the bucket.
    """

    def __init__(self, bucket: Location, client: Any) -> None:
        super().__init__(client)
        self._bucket = bucket

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a part of it; None when there is none."""
        try:
            return prototype.buffer.from_bytes(await asyncio.to_thread(self._read, key, byte_range))
        except FileNotFoundError:
            return None

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes:
        match byte_range:
            case RangeByteRequest(start, end):
                return self._bucket.read_range(key, start, end)
            case SuffixByteRequest(suffix):
                return self._bucket.read_end(key, suffix)
            case OffsetByteRequest(offset):
                return self._bucket.read(key)[offset:]
        return self._bucket.read(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await asyncio.to_thread(self._bucket.write, key, value.to_bytes())
