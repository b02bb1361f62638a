"""Features of windows on disk: one row per window of a store, written block by block, read at random.

Layout::

    FOLDER/manifest.json      what the features were computed from; written first
    FOLDER/values/zarr.json   Zarr v3 array (n_windows, n_variants, n_tokens, dim); one shard holds one block of windows
    FOLDER/values/c/B/0/0/0   block B, by one atomic rename
    FOLDER/COMPLETE           SHA-256 of the manifest, once every block is there; written last
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from storage.damage import damage_digest
from storage.errors import InputError
from storage.location import Location, locate
from storage.windows import WindowConfig, Windows

if TYPE_CHECKING:
    import tensorstore as ts

Precision = Literal["fp32", "bf16", "fp16"]
FEATURES = "features.zarr"
"""Folder of the features in the folder of the run that computed them."""
MANIFEST, COMPLETE, VALUES = "manifest.json", "COMPLETE", "values"
_DTYPES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_INDEX_CACHE_BYTES = 64_000_000
_PATIENCE_SECONDS = 120.0


class FeatureSource(BaseModel):
    """What features are computed from: equal sources have equal features, row by row.

    Attributes
    ----------
    store_digest : str
        `Store.digest`.
    damage_digest : str or None
        What was left out as damaged; None where damage is an error.
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


class FeatureManifest(BaseModel):
    """What a folder of features holds.

    Attributes
    ----------
    source : FeatureSource
        What they were computed from.
    num_windows, num_variants, num_tokens, dim : int
        Shape of the array. Variant 0 is the window as it is, the others are augmented.
    seed : int
        Of the augmentation.
    precision : str
        Of the numbers on disk.
    block : int
        Windows per block.
    versions : dict
        Software that computed them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    source: FeatureSource
    num_windows: int
    num_variants: int
    num_tokens: int
    dim: int
    seed: int
    precision: Precision
    block: int
    versions: dict[str, str]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n_windows, n_variants, n_tokens, dim)."""
        return self.num_windows, self.num_variants, self.num_tokens, self.dim

    @property
    def num_blocks(self) -> int:
        """Number of blocks; the last one may be shorter."""
        return -(-self.num_windows // self.block)

    def rows(self, block: int) -> np.ndarray:
        """Window numbers of a block."""
        return np.arange(block * self.block, min(self.num_windows, (block + 1) * self.block))


class Features:
    """Features of every window of a store, open for reading or for writing what is missing.

    Parameters
    ----------
    place : str, Path or Location
        Where they are: a folder that all nodes see, or a URL.
    manifest : FeatureManifest
        What they are.
    """

    def __init__(self, place: str | Path | Location, manifest: FeatureManifest) -> None:
        self.place, self.manifest = locate(place), manifest
        self._array: ts.TensorStore | None = None

    @classmethod
    def create(cls, place: str | Path, manifest: FeatureManifest) -> "Features":
        """Begin to write features, or go on; what is there of something else is removed."""
        root = locate(place)
        there = _read_manifest(root)
        if there is None or there.model_copy(update={"versions": manifest.versions}) != manifest:
            root.remove("")
            root.write(MANIFEST, manifest.model_dump_json(indent=1).encode())
        else:
            manifest = there
        return cls(root, manifest)

    @classmethod
    def open(cls, place: str | Path) -> "Features":
        """Open finished features for reading.

        Raises
        ------
        InputError
            When there are none, they are not complete, or their manifest is damaged.
        """
        root = locate(place)
        manifest = _read_manifest(root)
        if manifest is None:
            raise InputError(str(root), "no features here", "Run the features job first, or correct the path.")
        if not root.exists(COMPLETE):
            raise InputError(
                str(root),
                f"the features are not complete (no {COMPLETE})",
                "Run their features job again; it goes on.",
            )
        if root.read(COMPLETE).decode().strip() != _manifest_digest(root):
            raise InputError(
                f"{root}/{MANIFEST}", "is not the one that was completed", "Remove the folder and compute it again."
            )
        return cls(root, manifest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest."""
        return _manifest_digest(self.place)

    def missing(self) -> list[int]:
        """Blocks that are not there yet."""
        blocks = f"{VALUES}/c"
        there = self.place.files(blocks)
        return [block for block in range(self.manifest.num_blocks) if f"{blocks}/{block}/0/0/0" not in there]

    def prepare(self) -> None:
        """Write the array's description, before several processes write blocks."""
        self._open(create=True)

    def write(self, block: int, values: np.ndarray) -> None:
        """Write one block: it is there whole, or not at all.

        Parameters
        ----------
        block : int
            Number of the block.
        values : np.ndarray
            (windows of the block, n_variants, n_tokens, dim).

        Raises
        ------
        InputError
            When values are not finite in the precision on disk, or the folder cannot be written.
        """
        rows = self.manifest.rows(block)
        if values.shape != (len(rows), *self.manifest.shape[1:]):
            raise ValueError(f"block {block}: shape {values.shape} does not fit {self.manifest.shape}")
        array = self._open()
        with np.errstate(over="ignore"):
            stored = values.astype(array.dtype.numpy_dtype)
        if not np.isfinite(stored.astype(np.float32)).all():
            raise InputError(
                str(self.place),
                f"features of windows {rows[0]}..{rows[-1]} are not finite in {self.manifest.precision}",
                "Choose precision: fp32; if that does not help, the tower's weights are broken.",
            )
        with self.place.writing(f"block {block} of the features"):
            try:
                array[int(rows[0]) : int(rows[-1]) + 1].write(stored).result()
            except ValueError as error:  # TensorStore's word for whatever the file system says
                raise OSError(str(error).splitlines()[0]) from error

    def complete(self) -> None:
        """Say that every block is there; raises `ValueError` when one is not."""
        if missing := self.missing():
            raise ValueError(f"{self.place}: blocks {missing[:4]} are missing")
        self.place.write(COMPLETE, f"{_manifest_digest(self.place)}\n".encode())

    def read(self, rows: np.ndarray, variants: np.ndarray | int = 0) -> np.ndarray:
        """Read features of windows.

        Parameters
        ----------
        rows : np.ndarray
            Window numbers (batch,).
        variants : np.ndarray or int
            Variant of each (batch,), or of all.

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
        chosen = np.broadcast_to(np.asarray(variants, dtype=np.int64), rows.shape)
        for name, numbers, count in (
            ("window", rows, self.manifest.num_windows),
            ("variant", chosen, self.manifest.num_variants),
        ):
            if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
                raise IndexError(f"{name} numbers must lie in 0..{count - 1}")
        if not rows.size:
            return np.empty((0, *self.manifest.shape[2:]), dtype=np.float32)
        try:
            found = self._open().vindex[rows, chosen].read().result(timeout=_PATIENCE_SECONDS)
        except (ValueError, TimeoutError) as error:
            raise InputError(
                str(self.place),
                f"cannot be read ({str(error).splitlines()[0]})",
                "Remove the folder and run its features job again.",
            ) from error
        return np.asarray(found).astype(np.float32, copy=False)

    def _open(self, *, create: bool = False) -> "ts.TensorStore":
        import tensorstore as ts

        if self._array is None:
            spec: dict[str, Any] = {
                "driver": "zarr3",
                "kvstore": self.place.tensorstore(VALUES),
                "fill_missing_data_reads": False,
                "recheck_cached_data": "open",
                "recheck_cached_metadata": "open",
            }
            if create:
                spec["metadata"] = self._metadata()
            context = ts.Context({"cache_pool": {"total_bytes_limit": _INDEX_CACHE_BYTES}})
            opened = ts.open(spec, read=True, write=True, open=True, create=create, context=context)
            self._array = opened.result(timeout=_PATIENCE_SECONDS)
        return self._array

    def _metadata(self) -> dict[str, Any]:
        """Description of the array; a chunk is one variant of one window, which is what a read asks for."""
        shape = self.manifest.shape
        sharding = {
            "chunk_shape": [1, 1, *shape[2:]],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        }
        return {
            "shape": list(shape),
            "data_type": _DTYPES[self.manifest.precision],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.manifest.block, *shape[1:]]}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["window", "variant", "token", "feature"],
        }


def _read_manifest(place: Location) -> FeatureManifest | None:
    if not place.exists(MANIFEST):
        return None
    content = place.read(MANIFEST)
    try:
        return FeatureManifest.model_validate_json(content)
    except (ValidationError, ValueError) as error:
        raise InputError(
            f"{place}/{MANIFEST}", "is damaged", "Remove the folder and run its features job again."
        ) from error


def _manifest_digest(place: Location) -> str:
    return hashlib.sha256(place.read(MANIFEST)).hexdigest()


def _short(value: object) -> str:
    return f"{len(value)} names" if isinstance(value, tuple) else str(value)
