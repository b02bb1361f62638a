"""The store that zarr-python writes to on S3."""

import asyncio
from typing import TYPE_CHECKING, Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

if TYPE_CHECKING:
    from storage.places.s3.bucket import Bucket


class PatientObjectStore(ObjectStore[Any]):
    """Reads and writes whole objects with the patience of a `Bucket`.

    Parameters
    ----------
    bucket : Bucket
        The root of the store.
    """

    def __init__(self, bucket: "Bucket") -> None:
        super().__init__(bucket.objects)
        self._bucket = bucket

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object; None when there is none."""
        if byte_range is not None:
            return await super().get(key, prototype, byte_range)
        try:
            content = await asyncio.to_thread(self._bucket.read, key)
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(content)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await asyncio.to_thread(self._bucket.write, key, value.to_bytes())
