"""Features of windows on disk, and the signal measures of the same windows: one row per window of a store each.

Both are written block by block and read at random.

Layout::

    FOLDER/manifest.json      what the features were computed from; written first
    FOLDER/values/zarr.json   Zarr v3 array (n_windows, n_tokens, dim); one shard holds one block of windows
    FOLDER/values/c/B/0/0     block B, by one atomic rename
    FOLDER/measures/          Zarr v3 array (n_windows, n_quantities), float32; one chunk, c/B/0, holds one block
    FOLDER/COMPLETE           SHA-256 of the manifest, once every block is there; written last
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from storage.blocks import BlockFolder, Manifest
from storage.damage import damage_digest
from storage.errors import InputError
from storage.places.base import Location
from storage.windows import WindowConfig, Windows

if TYPE_CHECKING:
    import tensorstore as ts

Precision = Literal["fp32", "bf16", "fp16"]
FEATURES = "features.zarr"
"""Folder of the features in the folder of the run that computed them."""
VALUES, MEASURES = "values", "measures"
_DTYPES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_CACHE_BYTES = 64_000_000
_PATIENCE_SECONDS = 120.0
_CHECKED_BYTES = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


class FeatureSource(BaseModel):
    """Source of features: equal sources have equal features, row by row.

    Attributes
    ----------
    store_digest : str
        `Store.digest`.
    damage_digest : str or None
        Digest of the damage that was left out; None where damage is an error.
    windows : WindowConfig
        How windows are cut; its channels are named.
    encoder_digest : str
        SHA-256 of the encoder's settings and weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_digest: str
    damage_digest: str | None
    windows: WindowConfig
    encoder_digest: str

    @classmethod
    def of(cls, windows: Windows, encoder_digest: str) -> "FeatureSource":
        """Describe the features of some windows."""
        store, config = windows.store, windows.config
        damage = damage_digest(store) if config.damaged == "skip" else None
        named = config.model_copy(update={"channels": windows.channels})
        return cls(store_digest=store.digest, damage_digest=damage, windows=named, encoder_digest=encoder_digest)

    def difference(self, wanted: "FeatureSource") -> tuple[str, str] | None:
        """Name the first thing in which another source differs, and the field of a spec that decides it."""
        if self.encoder_digest != wanted.encoder_digest:
            return "model", f"of another tower ({self.encoder_digest[:12]}, not {wanted.encoder_digest[:12]})"
        if self.store_digest != wanted.store_digest:
            return "data.store", f"of another store ({self.store_digest[:12]}, not {wanted.store_digest[:12]})"
        for name in WindowConfig.model_fields:
            ours, theirs = getattr(self.windows, name), getattr(wanted.windows, name)
            if ours != theirs:
                return f"data.windows.{name}", f"of windows with {name} {_short(ours)}, not {_short(theirs)}"
        if self.damage_digest != wanted.damage_digest:
            return "data.windows.damaged", "of a time when other damage of the store was known"
        return None


class FeatureManifest(Manifest):
    """Description of a folder of features.

    Attributes
    ----------
    source : FeatureSource
        What the features were computed from.
    num_windows, num_tokens, dim : int
        Shape of the array.
    quantities : tuple of str
        Name of the quantity in each column of the measures.
    precision : str
        Precision of the numbers on disk.
    """

    format: Literal[3] = 3
    source: FeatureSource
    num_windows: int
    num_tokens: int
    dim: int
    quantities: tuple[str, ...]
    precision: Precision

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_windows, n_tokens, dim)."""
        return self.num_windows, self.num_tokens, self.dim

    @property
    def num_rows(self) -> int:
        """Windows."""
        return self.num_windows


class Features(BlockFolder[FeatureManifest]):
    """Features of every window of a store, open for reading or for writing missing blocks."""

    manifest_type = FeatureManifest
    job = "features"

    def __init__(self, place: str | Path | Location, manifest: FeatureManifest) -> None:
        super().__init__(place, manifest)
        self._arrays: dict[str, ts.TensorStore] = {}

    def missing(self) -> list[int]:
        """Blocks that are still missing."""
        there = {*self.place.files(f"{VALUES}/c"), *self.place.files(f"{MEASURES}/c")}
        files = ((f"{VALUES}/c/{block}/0/0", f"{MEASURES}/c/{block}/0") for block in range(self.manifest.num_blocks))
        return [block for block, wanted in enumerate(files) if not there.issuperset(wanted)]

    def prepare(self) -> None:
        """Write the arrays' descriptions, before several processes write blocks."""
        for name in (VALUES, MEASURES):
            self._open(name, create=True)

    def write(self, block: int, values: np.ndarray, measures: np.ndarray) -> None:
        """Write one block atomically.

        Parameters
        ----------
        block : int
            Number of the block.
        values : np.ndarray
            (windows of the block, n_tokens, dim).
        measures : np.ndarray
            (windows of the block, n_quantities).

        Raises
        ------
        InputError
            When values (in the precision on disk) or measures are not finite, or the folder cannot be written.
        """
        rows = self.manifest.rows(block)
        if values.shape != (len(rows), *self.manifest.shape[1:]):
            raise ValueError(f"block {block}: shape {values.shape} does not fit {self.manifest.shape}")
        if measures.shape != (len(rows), len(self.manifest.quantities)):
            raise ValueError(f"block {block}: measures of shape {measures.shape}, not of {self.manifest.quantities}")
        array = self._open(VALUES)
        with np.errstate(over="ignore"):
            stored = values.astype(array.dtype.numpy_dtype)
        if not np.isfinite(stored.astype(np.float32)).all():
            raise InputError(
                str(self.place),
                f"features of windows {rows[0]}..{rows[-1]} are not finite in {self.manifest.precision}",
                "Set precision: fp32; if that does not help, the tower's weights are broken.",
            )
        if not np.isfinite(measures).all():
            raise InputError(
                str(self.place),
                f"signal measures of windows {rows[0]}..{rows[-1]} are not finite",
                "Look at these recordings with e2llm info; leave them out of the store.",
            )
        here = slice(int(rows[0]), int(rows[-1]) + 1)
        with self.place.writing(f"block {block} of the features"):
            try:
                self._open(MEASURES)[here].write(measures.astype(np.float32)).result()
                array[here].write(stored).result()
            except ValueError as error:  # TensorStore's word for whatever the file system says
                raise OSError(str(error).splitlines()[0]) from error

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read features of windows.

        Parameters
        ----------
        rows : np.ndarray
            Window numbers (batch,).

        Returns
        -------
        np.ndarray
            float32 (batch, n_tokens, dim).

        Raises
        ------
        IndexError
            When a number is out of range.
        InputError
            When what is stored is missing or fails its checksum.
        """
        rows = np.asarray(rows, dtype=np.int64)
        return self._read(VALUES, rows, self.manifest.shape[1:])

    def measures(self, rows: np.ndarray) -> np.ndarray:
        """Read signal measures of windows, as they are; raises as `read`.

        Parameters
        ----------
        rows : np.ndarray
            Window numbers (batch,).

        Returns
        -------
        np.ndarray
            float32 (batch, n_quantities).
        """
        rows = np.asarray(rows, dtype=np.int64)
        return self._read(MEASURES, rows, (len(self.manifest.quantities),))

    def _read(self, name: str, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if rows.size and not (rows.min() >= 0 and rows.max() < self.manifest.num_windows):
            raise IndexError(f"window numbers must lie in 0..{self.manifest.num_windows - 1}")
        if not rows.size:
            return np.empty((0, *shape), dtype=np.float32)
        try:
            found = self._open(name).vindex[rows].read().result(timeout=_PATIENCE_SECONDS)
        except (ValueError, TimeoutError) as error:
            raise InputError(
                str(self.place),
                f"cannot be read ({str(error).splitlines()[0]})",
                "Remove the folder and run its features job again.",
            ) from error
        return np.asarray(found).astype(np.float32, copy=False)

    def _open(self, name: str, *, create: bool = False) -> "ts.TensorStore":
        import tensorstore as ts

        if name not in self._arrays:
            spec: dict[str, Any] = {
                "driver": "zarr3",
                "kvstore": self.place.tensorstore(name),
                "fill_missing_data_reads": False,
                "recheck_cached_data": "open",
                "recheck_cached_metadata": "open",
            }
            if create:
                spec["metadata"] = self._description() if name == VALUES else self._description_of_measures()
            context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
            opened = ts.open(spec, read=True, write=True, open=True, create=create, context=context)
            self._arrays[name] = opened.result(timeout=_PATIENCE_SECONDS)
        return self._arrays[name]

    def _description(self) -> dict[str, Any]:
        """Describe the array of features; a chunk is one window, which is what a read asks for."""
        shape = self.manifest.shape
        sharding = {
            "chunk_shape": [1, *shape[1:]],
            "codecs": _CHECKED_BYTES,
            "index_codecs": _CHECKED_BYTES,
        }
        return {
            "shape": list(shape),
            "data_type": _DTYPES[self.manifest.precision],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.manifest.block, *shape[1:]]}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["window", "token", "feature"],
        }

    def _description_of_measures(self) -> dict[str, Any]:
        """Describe the array of measures; a chunk is a whole block, which is small and stays in the cache."""
        width = len(self.manifest.quantities)
        return {
            "shape": [self.manifest.num_windows, width],
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.manifest.block, width]}},
            "codecs": _CHECKED_BYTES,
            "dimension_names": ["window", "quantity"],
        }


def _short(value: object) -> str:
    return f"{len(value)} names" if isinstance(value, tuple) else str(value)
