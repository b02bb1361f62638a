"""What happens to bytes that are not what was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.damage import damage_digest, verify
from storage.errors import InputError
from storage.layout import LayoutConfig
from storage.store import Store, open_store
from storage.windows import WindowConfig, Windows

CODECS = ("lz4", "none")


@pytest.fixture(params=CODECS)
def filled(request: pytest.FixtureRequest, store: Store, describe: Callable, noise: Callable) -> Store:
    """Two recordings of 30 s at 100 Hz in chunks of 2 s."""
    for name in ("a", "b"):
        layout = LayoutConfig(codec=request.param, chunk_seconds=2)
        info = describe(name, lengths=(1000, 2000)).model_copy(update={"layout": layout})
        store.write_recording(info, noise(info))
    store.write_index()
    return open_store(store.root)


def shard(store: Store, name: str = "a") -> Path:
    return store.root.path / store.signal_key(store.recordings[name]) / "c" / "0" / "0"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "a flipped bit": (lambda path: flip(path, 100), r"bytes [\d,]+\.\.[\d,]+, samples 0\.\.200: the checksum"),
    "a flipped bit in the index": (lambda path: flip(path, path.stat().st_size - 9), "index is damaged"),
    "a cut shard": (truncate, "index is damaged"),
    "an empty shard": (lambda path: path.write_bytes(b""), "index is damaged"),
    "a missing shard": (lambda path: path.unlink(), "the shard is missing"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_reading_names_recording_and_bytes(kind: str, filled: Store) -> None:
    damage, message = DAMAGES[kind]
    damage(shard(filled))
    windows = Windows(filled, WindowConfig(window_seconds=1, stride_seconds=1))
    rows = windows.table.query("recording_id == 'a'")["window"]
    with pytest.raises(InputError, match=rf"recording a: samples are missing or damaged.*c/0/0.*{message}"):
        windows.read(rows)
    others = windows.table.query("recording_id == 'b'")["window"]
    assert np.isfinite(windows.read(others)).all()


@pytest.mark.parametrize("kind", DAMAGES)
def test_verify_finds_it_and_skip_leaves_it_out(kind: str, filled: Store, noise: Callable) -> None:
    DAMAGES[kind][0](shard(filled))
    found = dict(verify(filled))
    assert len(found["a"]) == 1
    assert not found["b"]
    (damage,) = found["a"]
    config = WindowConfig(window_seconds=1, stride_seconds=0.5, damaged="skip")
    whole = Windows(filled, config.model_copy(update={"damaged": "error"}))
    kept = Windows(filled, config)
    touching = whole.table.query(f"recording_id == 'a' and start < {damage.stop} and stop > {damage.start}")
    assert kept.num_skipped == len(touching) == len(whole) - len(kept) > 0
    got, rows = kept.read(range(len(kept))), kept.table
    truth = noise(filled.recordings["b"])
    for place, row in enumerate(rows.itertuples()):
        assert np.abs(got[place] - truth[:, row.start : row.stop]).max() <= 0.05 + 1e-3


def test_damage_in_the_middle_splits_a_trial(filled: Store) -> None:
    store = filled
    size = shard(store).stat().st_size
    flip(shard(store), size // 2)
    ((damage,),) = [found for _, found in verify(store) if found]
    assert damage.last_byte > damage.first_byte >= 0
    kept = Windows(store, WindowConfig(window_seconds=1, stride_seconds=1, damaged="skip"))
    spans = kept.trials.query("recording_id == 'a'")[["start", "stop"]].to_numpy().tolist()
    assert [0, 1000] in spans
    assert all(stop <= damage.start or start >= damage.stop for start, stop in spans)
    assert sum(stop - start for start, stop in spans) == 3000 - (damage.stop - damage.start)


def test_skip_needs_verify(filled: Store) -> None:
    with pytest.raises(InputError, match="Run `e2llm verify"):
        Windows(filled, WindowConfig(damaged="skip", window_seconds=1))


def test_damage_is_forgotten_when_the_recording_is_ingested_anew(
    filled: Store, describe: Callable, noise: Callable
) -> None:
    flip(shard(filled), 100)
    list(verify(filled))
    info = filled.recordings["a"]
    filled.write_recording(info, noise(info))
    assert Windows(filled, WindowConfig(damaged="skip", window_seconds=1)).num_skipped == 0


def test_missing_metadata_of_an_array_is_damage(filled: Store) -> None:
    (shard(filled).parents[2] / "zarr.json").unlink()
    windows = Windows(filled, WindowConfig(window_seconds=1))
    with pytest.raises(InputError, match="recording a"):
        windows.read([0])
    assert [name for name, found in verify(filled) if found] == ["a"]


def test_the_digest_of_damage_changes_with_it(filled: Store) -> None:
    list(verify(filled))
    before = damage_digest(filled)
    flip(shard(filled), 100)
    list(verify(filled))
    assert damage_digest(filled) != before
