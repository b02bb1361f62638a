"""A corpus of dialogues about windows, as Parquet: one row per sample, in the order of training.

Layout::

    FOLDER/manifest.json         what the dialogues were drawn from; written first
    FOLDER/parts/00000.parquet   rows of block 0, by one atomic write
    FOLDER/README.md             datasheet, once every part is there
    FOLDER/parts.json            SHA-256 of every part
    FOLDER/COMPLETE              SHA-256 of manifest.json and parts.json; written last
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.blocks import MANIFEST, BlockFolder, Manifest
from storage.errors import InputError
from storage.features import FeatureSource
from storage.places.base import Location

CORPUS = "corpus"
"""Folder of the corpus in the folder of the run that wrote it."""
DATASHEET = "README.md"
OWN = "e2llm"
"""`source` of the rows that this project's tasks drew; of others it is the name of the file that they came in."""

_PARTS, _HASHES = "parts", "parts.json"
_KEPT_PARTS = 64
WINDOW = pa.struct({"recording_id": pa.string(), "trial": pa.int64(), "window": pa.int64()})
"""A window: its recording, its trial, and its number among the windows of this trial."""
CLAIM = pa.struct(
    {
        "table": pa.int64(),
        "kind": pa.string(),
        "band": pa.string(),
        "region": pa.string(),
        "above": pa.bool_(),
        "strength": pa.string(),
        "reference": pa.string(),
    }
)
SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("windows", pa.list_(WINDOW), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        pa.field("thinking", pa.string()),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("claims", pa.list_(CLAIM), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("seed", pa.list_(pa.int64()), nullable=False),
    ]
)
"""Columns: the task; the windows that the dialogue shows, in the order of its `<eeg>`; question, chain of thought (null
for none) and answer; every claim of the text, as `Claim.to_dict` has it; who wrote the row; the seeds that drew it,
empty for rows of others."""


class CorpusManifest(Manifest):
    """Description of a corpus.

    Attributes
    ----------
    source : FeatureSource
        Store, windows and tower.
    split_digest : str
        Split whose training side the dialogues are about.
    reading_digest : str or None
        SHA-256 of the maps by which the projector reads what the texts tell; None where stage 2 fits them itself, or
        no projector tells anything.
    stage : str
        Stage that trains on it.
    settings : dict
        Settings of the stage that the dialogues depend on.
    seed : int
        Seed of order and dialogues.
    samples : int
        Rows that are drawn.
    others : dict of str to str
        Files of others' dialogues among the rows, with the SHA-256 of each.
    num_others : int
        Rows of theirs.
    """

    format: Literal[1] = 1
    source: FeatureSource
    split_digest: str
    reading_digest: str | None
    stage: str
    settings: dict[str, Any]
    seed: int
    samples: int
    others: dict[str, str]
    num_others: int

    @property
    def num_rows(self) -> int:
        """Rows in all."""
        return self.samples + self.num_others


class Corpus(BlockFolder[CorpusManifest]):
    """A corpus, open for reading or for writing missing parts."""

    manifest_type = CorpusManifest
    job = "corpus"
    sealed = (MANIFEST, _HASHES)

    def __init__(self, place: str | Path | Location, manifest: CorpusManifest) -> None:
        super().__init__(place, manifest)
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def missing(self) -> list[int]:
        """Parts that are still missing."""
        there = self.place.files(_PARTS)
        return [block for block in range(self.manifest.num_blocks) if _part(block) not in there]

    def write(self, block: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write one part atomically.

        Parameters
        ----------
        block : int
            Number of the part.
        rows : sequence of dict
            Its rows, with the columns of `SCHEMA`.

        Raises
        ------
        InputError
            When the folder cannot be written.
        """
        if len(rows) != len(self.manifest.rows(block)):
            raise ValueError(f"block {block}: {len(rows)} rows instead of {len(self.manifest.rows(block))}")
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
        pq.write_table(table, sink, compression="zstd")
        with self.place.writing(f"part {block} of the corpus"):
            self.place.write(_part(block), sink.getvalue().to_pybytes())

    def seal(self) -> None:
        """Write the digests of all parts, after which `digest` is known; raises `ValueError` if a part is missing."""
        if missing := self.missing():
            raise ValueError(f"{self.place}: parts {missing[:4]} are missing")
        hashes = {_part(block): _sha256(self.place.read(_part(block))) for block in range(self.manifest.num_blocks)}
        self.place.write(_HASHES, json.dumps(hashes, indent=1).encode())

    @cached_property
    def _hashes(self) -> dict[str, str]:
        """SHA-256 of every part; empty while the corpus is being written."""
        return dict(json.loads(self.place.read(_HASHES))) if self.place.exists(_HASHES) else {}

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """Read rows by number, in the order of `numbers`; the last few parts stay in memory.

        Raises
        ------
        IndexError
            When a number is out of range.
        InputError
            When a part is missing, or is not what was written.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self.manifest.num_rows):
            raise IndexError(f"row numbers must lie in 0..{self.manifest.num_rows - 1}")
        blocks, within = np.divmod(numbers, self.manifest.block)
        found: dict[int, dict[str, Any]] = {}
        for block in np.unique(blocks).tolist():
            places = np.flatnonzero(blocks == block)
            taken = self._read(block).take(pa.array(within[places])).to_pylist()
            found |= dict(zip(places.tolist(), taken, strict=True))
        return [found[place] for place in range(len(numbers))]

    def parts(self) -> Iterator[pa.Table]:
        """All rows, part by part."""
        for block in range(self.manifest.num_blocks):
            yield self._read(block)

    def _read(self, block: int) -> pa.Table:
        if block not in self._kept:
            self._kept[block] = self._read_part(_part(block))
            if len(self._kept) > _KEPT_PARTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(block)
        return self._kept[block]

    def _read_part(self, name: str) -> pa.Table:
        place, remedy = f"{self.place}/{name}", "Remove the folder and run its corpus job again."
        try:
            content = self.place.read(name)
            table = pq.read_table(pa.BufferReader(content), schema=SCHEMA)
        except (OSError, pa.ArrowException) as error:
            raise InputError(place, f"cannot be read ({str(error).splitlines()[0]})", remedy) from error
        if self._hashes.get(name, _sha256(content)) != _sha256(content):
            raise InputError(place, "was changed after the corpus was completed", remedy)
        return table


def read_others(name: str, content: bytes) -> list[dict[str, Any]]:
    """Rows of a Parquet file of others' dialogues.

    Parameters
    ----------
    name : str
        The file, for errors and as the rows' `source`.
    content : bytes
        Columns `windows`, `user` and `answer` as in `SCHEMA`, and `thinking` if there is any. Other columns are not
        read.

    Raises
    ------
    InputError
        When it is no such file, or a value is missing.
    """
    remedy = "Give it the columns windows (recording_id, trial, window), user, answer and, if any, thinking."
    wanted = pa.schema([SCHEMA.field(column) for column in ("windows", "user", "thinking", "answer")])
    try:
        table = pq.read_table(pa.BufferReader(content))
        absent = [field.name for field in wanted if field.nullable is False and field.name not in table.column_names]
        if absent:
            raise InputError(name, f"has no column {', '.join(absent)}", remedy)
        if "thinking" not in table.column_names:
            table = table.append_column("thinking", pa.nulls(len(table), pa.string()))
        for field in wanted:
            if not field.nullable and (empty := table[field.name].null_count):
                raise InputError(name, f"{empty} rows have no {field.name}", remedy)
        rows: list[dict[str, Any]] = table.select(wanted.names).cast(wanted).to_pylist()
        for number, row in enumerate(rows):
            if any(window is None or None in window.values() for window in row["windows"]):
                raise InputError(f"{name}: row {number}", "names a window in part", remedy)
    except (OSError, pa.ArrowException) as error:
        raise InputError(name, f"cannot be read ({str(error).splitlines()[0]})", remedy) from error
    return rows


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _part(block: int) -> str:
    return f"{_PARTS}/{block:05d}.parquet"
