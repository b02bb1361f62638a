"""The hot read path: stretches of recordings into one float32 batch.

Compressed and remote arrays are read by TensorStore, all of a batch at once. Uncompressed local ones are
memory-mapped: each chunk's checksum is verified when it is first touched.
"""

import errno
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from storage.errors import InputError
from storage.places.folder import Folder
from storage.recording import RecordingInfo
from storage.shards import CRC_BYTES, Damage, DamageError, ShardedArray, is_whole
from storage.store import Store

if TYPE_CHECKING:
    import tensorstore as ts


_MOST_MAPS = 512
_MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE


class _Array(Protocol):
    """One recording's open samples."""

    def begin(self, start: int, out: np.ndarray) -> Callable[[], None]:
        """Start reading from `start` into `out`, float32 (n_chans, n_times) in µV; the returned function ends it."""


class _Scale:
    """How stored samples become µV, in place. One step for all channels, the usual case, is twice as fast."""

    def __init__(self, info: RecordingInfo, picks: np.ndarray) -> None:
        scale, offset = (np.asarray(values, np.float32)[picks, None] for values in (info.scale_uv, info.offset_uv))
        self._scale: np.ndarray | np.float32 = scale[0, 0] if (scale == scale[0]).all() else scale
        self._offset = offset if offset.any() else None
        self._is_needed = bool((scale != 1).any())

    def apply(self, out: np.ndarray) -> None:
        """Turn samples (n_chans, n_times) into µV."""
        if self._is_needed:
            np.multiply(out, self._scale, out=out)
        if self._offset is not None:
            np.add(out, self._offset, out=out)


class SignalReader:
    """Reads stretches of a store's recordings. Safe to use from several threads; not across a fork.

    Parameters
    ----------
    store : Store
        Where the recordings are.
    channels : sequence of str
        Channels to read, in this order.
    cache_bytes : int
        Memory for decoded chunks that are kept, in all; 0 for none.
    """

    def __init__(self, store: Store, channels: Sequence[str], cache_bytes: int = 0) -> None:
        self._store, self._channels = store, tuple(channels)
        self._cache_bytes = cache_bytes
        self._opened: dict[str, _Array] = {}
        self._signals = dict(zip(store.catalogue["recording_id"], store.catalogue["signal"], strict=True))
        self._maps = _Maps(may_be_evicted=_sample_bytes(store) > _MEMORY_BYTES // 2)
        self._lock = threading.Lock()
        self._context: ts.Context | None = None

    def read(self, names: Sequence[str], starts: Sequence[int] | np.ndarray, out: np.ndarray) -> np.ndarray:
        """Read equally long stretches, overlapped.

        Parameters
        ----------
        names : sequence of str
            Recording of each stretch.
        starts : sequence of int
            First sample of each.
        out : np.ndarray
            float32 (batch, n_chans, n_times), written in µV.

        Returns
        -------
        np.ndarray
            `out`.

        Raises
        ------
        InputError
            When stored samples are missing or fail their checksum, naming recording and bytes; or when an object
            store stays silent.
        """
        ends: list[Callable[[], None]] = []
        for row, (name, start) in enumerate(zip(names, np.asarray(starts).tolist(), strict=True)):
            with self._named(name, start, out.shape[2]):
                ends.append(self._open(name).begin(start, out[row]))
        for row, end in enumerate(ends):
            with self._named(names[row], int(starts[row]), out.shape[2]):
                end()
        return out

    def _named(self, name: str, start: int, n_times: int) -> "_Named":
        return _Named(self._store, name, self._signals[name], start, start + n_times)

    def _open(self, name: str) -> _Array:
        if name not in self._opened:
            with self._lock:
                if name not in self._opened:
                    self._opened[name] = self._newly_opened(self._known(name))
        return self._opened[name]

    def _known(self, name: str) -> RecordingInfo:
        """A recording's description, if it is still the one that the trials speak of."""
        info = self._store.find(name)
        if info is None or info.signal != self._signals[name]:
            raise _replaced(f"{self._store.root} recording {name}")
        return info

    def _newly_opened(self, info: RecordingInfo) -> _Array:
        picks = np.array([info.channels.index(channel) for channel in self._channels])
        scale, rows = _Scale(info, picks), _as_slice(picks)
        root, key = self._store.root, self._store.signal_key(info)
        if info.layout.codec == "none" and isinstance(root, Folder):
            array = ShardedArray.open(root, key)
            if array.shape != (len(info.channels), info.n_times):
                raise DamageError(f"{key}/zarr.json is damaged")
            return _MappedArray(array, root.path, rows, scale, self._maps)
        import tensorstore as ts

        if self._context is None:
            self._context = ts.Context({"cache_pool": {"total_bytes_limit": self._cache_bytes}})
        spec = {"driver": "zarr3", "kvstore": root.tensorstore(key), "fill_missing_data_reads": False}
        opened = ts.open(spec, read=True, context=self._context).result(timeout=root.patience_seconds)
        return _TensorStoreArray(opened, rows, scale, root.patience_seconds)


class _Named:
    """Turns a failed read of one stretch into one line that names the recording and the bytes."""

    def __init__(self, store: Store, name: str, signal: str, start: int, stop: int) -> None:
        self._store, self._name, self._signal, self._start, self._stop = store, name, signal, start, stop

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError) or not isinstance(error, ValueError | OSError):
            return
        place = f"{self._store.root} recording {self._name}"
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise InputError(place, "too many files are open", "Raise the limit with `ulimit -n`.") from error
        if isinstance(error, TimeoutError):
            problem = f"no answer for {self._store.root.patience_seconds:g} s"
            raise InputError(place, problem, "Check the object store, then run again.") from error
        now = self._store.find(self._name)
        if now is None or now.signal != self._signal:
            raise _replaced(place) from error
        raise InputError(
            place,
            f"samples are missing or damaged ({self._cause(error, now)})",
            "Delete the recording's folder and run the ingest job again, or run `e2llm verify` and set "
            "`windows.damaged: skip`.",
        ) from error

    def _cause(self, error: Exception, info: RecordingInfo) -> str:
        try:
            found: Damage | None = next(
                ShardedArray.open(self._store.root, self._store.signal_key(info)).damages(self._start, self._stop), None
            )
        except DamageError as unreadable:
            return str(unreadable)
        return str(found) if found else str(error).split(" [", 1)[0].splitlines()[0]


def _replaced(place: str) -> InputError:
    return InputError(place, "was replaced or removed since the store was opened", "Open the store again.")


class _TensorStoreArray:
    def __init__(self, array: "ts.TensorStore", rows: Any, scale: _Scale, patience_seconds: float) -> None:
        self._array, self._rows, self._scale, self._patience = array, rows, scale, patience_seconds

    def begin(self, start: int, out: np.ndarray) -> Callable[[], None]:
        reading = self._array[self._rows, start : start + out.shape[1]].read()

        def end() -> None:
            out[...] = reading.result(timeout=self._patience)
            self._scale.apply(out)

        return end


def _sample_bytes(store: Store) -> int:
    """Bytes of a store's samples before compression, at the narrower of the two precisions."""
    catalogue = store.catalogue
    return 2 * int((catalogue["n_times"] * (catalogue["channels"].str.count(",") + 1)).sum())


class _Maps:
    """Which shards are mapped. The oldest are let go: each holds an open file.

    Parameters
    ----------
    may_be_evicted : bool
        Whether pages that were read once may be gone, as in a store that is larger than memory.
    """

    def __init__(self, *, may_be_evicted: bool) -> None:
        self.may_be_evicted = may_be_evicted
        self._order: deque[tuple[_MappedArray, int]] = deque()

    def note(self, array: "_MappedArray", shard: int) -> None:
        """Take in a new one."""
        self._order.append((array, shard))
        while len(self._order) > _MOST_MAPS:
            oldest, number = self._order.popleft()
            oldest.let_go(number)


@dataclass(frozen=True)
class _Shard:
    mapped: mmap.mmap
    index: np.ndarray
    chunks: dict[int, np.ndarray]


class _MappedArray:
    """Shards as memory maps. Chunks that may not be in memory are read from the disk as a whole, not page by page."""

    def __init__(self, array: ShardedArray, root: Path, rows: Any, scale: _Scale, maps: _Maps) -> None:
        self._array, self._root, self._rows, self._scale, self._maps = array, root, rows, scale, maps
        self._per_shard = array.shard_times // array.chunk_times
        self._shards: dict[int, _Shard] = {}
        self._whole: set[int] = set()

    def begin(self, start: int, out: np.ndarray) -> Callable[[], None]:
        length = self._array.chunk_times
        for number in range(start // length, (start + out.shape[1] - 1) // length + 1):
            if self._maps.may_be_evicted or number not in self._whole:
                self._ask_for(number)
        return lambda: self._copy(start, out)

    def let_go(self, shard: int) -> None:
        """Unmap a shard; it is mapped again when it is next read."""
        self._shards.pop(shard, None)

    def _copy(self, start: int, out: np.ndarray) -> None:
        length, done, n_times = self._array.chunk_times, 0, out.shape[1]
        while done < n_times:
            number, within = divmod(start + done, length)
            size = min(n_times - done, length - within)
            out[:, done : done + size] = self._chunk(number)[:, within : within + size][self._rows]
            done += size
        self._scale.apply(out)

    def _chunk(self, number: int) -> np.ndarray:
        """One chunk (n_chans, chunk_times) in place; raises `DamageError` when it is not what was written."""
        shard = self._shard(number // self._per_shard)
        chunk = shard.chunks.get(number)
        if chunk is None:
            chunk = shard.chunks[number] = self._verified(shard, number)
        return chunk

    def _shard(self, number: int) -> _Shard:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = self._map(number)
            self._maps.note(self, number)
        return shard

    def _ask_for(self, number: int) -> None:
        shard = self._shard(number // self._per_shard)
        offset, length = shard.index[number % self._per_shard].tolist()
        first = offset - offset % mmap.PAGESIZE
        last = min(offset + length, len(shard.mapped))
        if first < last:
            shard.mapped.madvise(mmap.MADV_WILLNEED, first, last - first)

    def _verified(self, shard: _Shard, number: int) -> np.ndarray:
        offset, length = shard.index[number % self._per_shard].tolist()
        shape = (self._array.shape[0], self._array.chunk_times)
        count = shape[0] * shape[1]
        if number not in self._whole:
            expected = count * self._array.dtype.itemsize + CRC_BYTES
            if length != expected or not is_whole(shard.mapped[offset : offset + length]):
                raise DamageError("the checksum does not match")
            self._whole.add(number)
        return np.frombuffer(shard.mapped, self._array.dtype, count, offset).reshape(shape)

    def _map(self, shard: int) -> _Shard:
        path = self._root / self._array.shard_key(shard)
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise DamageError("the shard is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Shard(mapped, self._array.parse_index(mapped[-self._array.index_bytes :], shard), {})


def _as_slice(picks: np.ndarray) -> Any:
    """A slice where rows follow each other, which is read faster than a list of rows."""
    first = int(picks[0])
    return slice(first, first + len(picks), 1) if (np.diff(picks) == 1).all() else picks
