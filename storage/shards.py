"""The bytes of a sharded array: the position of each chunk, and whether it is intact.

Source: the Zarr v3 ``sharding_indexed`` codec. A shard ends with an index of (offset, length) pairs, little-endian
uint64, and its CRC-32C; each of our chunks ends with a CRC-32C of its own.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import google_crc32c
import numpy as np

from storage.places.base import Location

CRC_BYTES = 4
_ENTRY_BYTES = 16
_MISSING = np.uint64(2**64 - 1)


class DamageError(ValueError):
    """Bytes that differ from those written."""


@dataclass(frozen=True)
class ShardedArray:
    """The geometry of one (n_chans, n_times) array.

    Parameters
    ----------
    location : Location
        Location of the store.
    key : str
        Key of the array in the store.
    metadata : dict
        Content of the array's ``zarr.json``.
    """

    location: Location
    key: str
    metadata: dict[str, Any]

    @classmethod
    def open(cls, location: Location, key: str) -> "ShardedArray":
        """Read an array's geometry; raises `DamageError` when there is none."""
        try:
            array = cls(location, key, json.loads(location.read(f"{key}/zarr.json")))
            sound = min(*array.shape, array.chunk_times) > 0 and array.shard_times % array.chunk_times == 0
            sound = sound and array.dtype.kind in "if" and array.shard_times > 0
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamageError(f"{key}/zarr.json is missing or damaged") from error
        if not sound:
            raise DamageError(f"{key}/zarr.json is damaged")
        return array

    @property
    def shape(self) -> tuple[int, int]:
        """(n_chans, n_times)."""
        n_chans, n_times = self.metadata["shape"]
        return n_chans, n_times

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples."""
        return np.dtype(str(self.metadata["data_type"])).newbyteorder("<")

    @property
    def shard_times(self) -> int:
        """Samples in a shard."""
        return int(self.metadata["chunk_grid"]["configuration"]["chunk_shape"][1])

    @cached_property
    def chunk_times(self) -> int:
        """Samples in a chunk."""
        (sharding,) = self.metadata["codecs"]
        return int(sharding["configuration"]["chunk_shape"][1])

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.shape[1] // self.shard_times)

    @property
    def _chunks_per_shard(self) -> int:
        return self.shard_times // self.chunk_times

    def shard_key(self, shard: int) -> str:
        """Object that holds a shard."""
        return f"{self.key}/c/0/{shard}"

    @property
    def index_bytes(self) -> int:
        """Length of a shard's index."""
        return self._chunks_per_shard * _ENTRY_BYTES + CRC_BYTES

    def parse_index(self, content: bytes, shard: int) -> np.ndarray:
        """Turn a shard's last bytes into int64 (chunks, 2): offset and length; raises `DamageError`."""
        if len(content) != self.index_bytes or not is_whole(content):
            raise DamageError("its index is damaged")
        index = np.frombuffer(content[:-CRC_BYTES], dtype="<u8").reshape(-1, 2)
        needed = -(-(min(self.shape[1], (shard + 1) * self.shard_times) - shard * self.shard_times) // self.chunk_times)
        if (index[:needed] == _MISSING).any():
            raise DamageError("it lacks a chunk")
        return index[:needed].astype(np.int64)

    def damages(self, start: int = 0, stop: int | None = None) -> Iterator["Damage"]:
        """Check every chunk between two samples.

        Yields
        ------
        Damage
            Each chunk that is missing or does not match its checksum.
        """
        stop = self.shape[1] if stop is None else stop
        for shard in range(start // self.shard_times, -(-stop // self.shard_times)):
            yield from self._shard_damages(shard, start, stop)

    def _shard_damages(self, shard: int, start: int, stop: int) -> Iterator["Damage"]:
        key, first = self.shard_key(shard), shard * self.shard_times
        last = min(first + self.shard_times, self.shape[1])
        try:
            read = self._reader(key, whole=start <= first and last <= stop)
            index = self.parse_index(read(-self.index_bytes, None), shard)
        except FileNotFoundError:
            yield Damage(key, 0, 0, first, last, "the shard is missing")
            return
        except DamageError as error:
            yield Damage(key, 0, 0, first, last, str(error))
            return
        for number, (offset, length) in enumerate(index.tolist()):
            begin = first + number * self.chunk_times
            end = min(begin + self.chunk_times, last)
            if end > start and begin < stop:
                content = read(offset, offset + length)
                if len(content) != length or not is_whole(content):
                    yield Damage(key, offset, offset + length, begin, end, "the checksum does not match")

    def _reader(self, key: str, *, whole: bool) -> Callable[[int, int | None], bytes]:
        """Return a reader of parts of a shard, from memory if all of it will be needed."""
        if whole:
            content = self.location.read(key)
            return lambda start, stop: content[start:stop]
        return lambda start, stop: (
            self.location.read_end(key, -start) if stop is None else self.location.read_range(key, start, stop)
        )


@dataclass(frozen=True)
class Damage:
    """A stretch of an array that cannot be read: bytes of an object, and samples `start`..`stop`."""

    key: str
    first_byte: int
    last_byte: int
    start: int
    stop: int
    problem: str

    def __str__(self) -> str:
        where = f"bytes {self.first_byte:,}..{self.last_byte:,}" if self.last_byte else "all its bytes"
        return f"{self.key}, {where}, samples {self.start:,}..{self.stop:,}: {self.problem}"


def is_whole(content: bytes) -> bool:
    """Whether bytes end with the CRC-32C of the preceding ones."""
    expected = int.from_bytes(content[-CRC_BYTES:], "little")
    return len(content) > CRC_BYTES and google_crc32c.value(content[:-CRC_BYTES]) == expected
