import errno
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from storage.errors import InputError
from storage.labels import LabelSet
from storage.layout import LayoutConfig
from storage.places.location import locate
from storage.places.lock import LOCKS
from storage.recording import RecordingInfo, Trial, quantise
from storage.store import Store, create_store, open_store, subjects_of
from storage.upkeep import remove_leftovers
from storage.windows import WindowConfig, Windows

signals = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=st.floats(-1e7, 1e7, width=32)
)


@given(signals)
def test_quantised_is_off_by_at_most_half_a_step(signal: np.ndarray) -> None:
    steps, scale, offset = quantise(signal)
    assert steps.dtype == np.int16
    assert (scale >= 0.1).all()
    error = np.abs(steps * scale[:, None] + offset[:, None] - signal)
    assert (error <= scale[:, None] / 2 * (1 + 1e-9)).all()


def test_quantise_takes_integers_without_overflow() -> None:
    steps, scale, offset = quantise(np.array([[-32768, 32767]], dtype=np.int16))
    assert np.abs(steps * scale[:, None] + offset[:, None] - [-32768, 32767]).max() <= scale[0] / 2


def test_an_offset_does_not_coarsen_the_step() -> None:
    signal = np.random.default_rng(0).normal([[4200.0], [0.0]], 20, (2, 1000))
    steps, scale, offset = quantise(signal)
    assert scale.tolist() == [0.1, 0.1]
    assert abs(offset[0] - 4200) < 100
    assert offset[1] == 0
    assert np.abs(steps * scale[:, None] + offset[:, None] - signal).max() <= 0.05 + 1e-9


def array_of(store: Store, name: str) -> zarr.Array:
    array = zarr.open_array(str(store.root), path=store.signal_key(store.recordings[name]), mode="r")
    assert isinstance(array, zarr.Array)
    return array


def stored(store: Store, name: str) -> np.ndarray:
    info = store.recordings[name]
    return np.asarray(array_of(store, name)[:]) * np.array(info.scale_uv)[:, None] + np.array(info.offset_uv)[:, None]


def test_roundtrip(store: Store, describe: Callable, noise: Callable) -> None:
    info = describe(lengths=(300, 233), channels=("CZ", "PZ"))
    written = store.write_recording(info, noise(info))
    again = open_store(store.root)
    assert dict(again.recordings) == {"a": written} == dict(store.recordings)
    assert (again.dataset, again.label_set) == (store.dataset, store.label_set)
    assert np.abs(stored(again, "a") - noise(info)).max() <= 0.05 + 1e-9
    assert list(again.trials["stop"] - again.trials["start"]) == [300, 233]
    array = array_of(store, "a")
    assert (array.dtype, array.chunks, array.metadata.zarr_format) == (np.int16, (2, 200), 3)
    assert zarr.open_group(str(store.root), mode="r")["recordings/a"].attrs["subject"] == "s1"


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
@pytest.mark.parametrize("precision", ["int16", "float32"])
def test_every_layout_holds_the_same_signal(
    codec: str, precision: str, store: Store, describe: Callable, noise: Callable
) -> None:
    fields = {"layout": LayoutConfig(codec=codec, chunk_seconds=0.7), "precision": precision}
    info = describe(lengths=(533,)).model_copy(update=fields)
    store.write_recording(info, noise(info))
    error = 0.05 + 1e-9 if precision == "int16" else 1e-5
    assert np.abs(stored(open_store(store.root), "a") - noise(info)).max() <= error
    windows = Windows(store, WindowConfig(window_seconds=1.3, stride_seconds=0.37, channels=("OZ", "FP1")))
    starts = windows.table["start"].tolist()
    expected = np.stack([noise(info)[[2, 0], start : start + 130] for start in starts])
    assert np.abs(windows.read(range(len(windows))) - expected).max() <= error + 1e-4


@pytest.mark.parametrize("victim", ["storage.store.write_signal", "storage.places.folder.Folder.write"])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_recording_changes_by_its_last_write_alone(
    victim: str,
    replaces: bool,
    store: Store,
    describe: Callable,
    noise: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = describe()
    if replaces:
        store.write_recording(info, noise(info, 1))

    def killed(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(victim, killed)
        with pytest.raises(KeyboardInterrupt):
            store.write_recording(info, noise(info))
    again = open_store(store.root)
    if replaces:
        assert np.abs(stored(again, "a") - noise(info, 1)).max() <= 0.05 + 1e-9
    else:
        assert again.find("a") is None
        with pytest.raises(InputError, match="holds no recording"):
            _ = again.trials
    again.write_recording(info, noise(info))
    assert np.abs(stored(open_store(store.root), "a") - noise(info)).max() <= 0.05 + 1e-9
    assert len(again.root.folders("recordings/a")) == 1


def test_the_index_says_what_the_recordings_say(store: Store, describe: Callable, noise: Callable) -> None:
    for name in ("b", "a", "c"):
        info = describe(name, lengths=(100, 50), subject=f"s-{name}")
        store.write_recording(info, noise(info))
    trials, catalogue, digest = store.trials, store.catalogue, store.digest
    store.write_index()
    indexed = open_store(store.root)
    pd.testing.assert_frame_equal(indexed.trials, trials)
    pd.testing.assert_frame_equal(indexed.catalogue, catalogue)
    assert indexed.digest == digest
    assert dict(indexed.recordings) == dict(store.recordings)


def test_with_an_index_opening_reads_no_description(
    store: Store, describe: Callable, noise: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_recording(describe(), noise(describe()))
    store.write_index()
    monkeypatch.setattr(Store, "find", lambda *_: pytest.fail("a description was read"))
    again = open_store(store.root)
    assert len(again.trials) == len(again.recordings) == 1
    assert len(again.digest) == 64


@pytest.mark.parametrize("change", ["replace", "add", "remove", "damage the index", "half-written recording"])
def test_a_stale_index_is_not_believed(change: str, store: Store, describe: Callable, noise: Callable) -> None:
    for name in ("a", "b"):
        store.write_recording(describe(name), noise(describe(name)))
    store.write_index()
    if change == "replace":
        store.write_recording(describe("a", lengths=(70, 80)), noise(describe("a", lengths=(70, 80))))
    elif change == "add":
        store.write_recording(describe("c"), noise(describe("c")))
    elif change == "remove":
        store.remove_recording("a")
    elif change == "damage the index":
        (store.root.path / "index" / "trials.parquet").write_bytes(b"no parquet")
    else:
        (store.root.path / "recordings" / "killed" / "signal-1").mkdir(parents=True)
    again = open_store(store.root)
    expected = [name for name in ("a", "b", "c", "killed") if again.find(name) is not None]
    assert list(again.recordings) == expected == again.catalogue["recording_id"].tolist()
    assert len(again.trials) == sum(len(again.recordings[name].trials) for name in expected)


@pytest.mark.parametrize("file", ["recordings.parquet", "trials.parquet", "checksums.json"])
def test_a_damaged_index_is_made_anew(file: str, store: Store, describe: Callable, noise: Callable) -> None:
    store.write_recording(describe(), noise(describe()))
    trials = store.trials
    store.write_index()
    path = store.root.path / "index" / file
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        pd.testing.assert_frame_equal(open_store(store.root).trials, trials)


def test_a_changed_description_is_damage(store: Store, describe: Callable, noise: Callable) -> None:
    store.write_recording(describe(), noise(describe()))
    card = store.root.path / "recordings" / "a" / "zarr.json"
    text = card.read_text()
    assert "0.1" in text
    card.write_text(text.replace("0.1", "0.3", 1))
    with pytest.raises(InputError, match="is damaged"):
        open_store(store.root).find("a")


@pytest.mark.parametrize("codec", ["lz4", "none"])
@pytest.mark.parametrize("moment", ["before the first read", "after it", "removed"])
def test_a_recording_replaced_while_the_store_is_open_is_said(
    codec: str, moment: str, store: Store, describe: Callable, noise: Callable
) -> None:
    layout = {"layout": LayoutConfig(codec=codec)}
    info = describe(lengths=(90_000,)).model_copy(update=layout)
    store.write_recording(info, noise(info))
    windows = Windows(open_store(store.root), WindowConfig(window_seconds=1))
    if moment == "after it":
        windows.read([0])
    if moment == "removed":
        store.remove_recording("a")
    else:
        other = describe(lengths=(300, 200), sfreq_hz=50.0).model_copy(update=layout)
        store.write_recording(other, noise(other))
    with pytest.raises(InputError, match=r"was replaced or removed.*Open the store again"):
        windows.read([len(windows) - 1])


def test_many_shards_do_not_exhaust_open_files(
    store: Store, describe: Callable, noise: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.reading._MOST_MAPS", 2)
    for number in range(6):
        info = describe(f"r{number}").model_copy(update={"layout": LayoutConfig(codec="none")})
        store.write_recording(info, noise(info, number))
    windows = Windows(store, WindowConfig(window_seconds=5))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        got = windows.read(range(6))
        assert np.abs(got - np.stack([noise(describe(), number) for number in range(6)])).max() <= 0.05 + 1e-3
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3


def test_a_full_disk_leaves_what_was_there(
    store: Store, describe: Callable, noise: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = describe()
    store.write_recording(info, noise(info, 1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("storage.store.write_signal", full)
        with pytest.raises(InputError, match=r"No space left on device.*unchanged"):
            store.write_recording(info, noise(info))
    assert np.abs(stored(open_store(store.root), "a") - noise(info, 1)).max() <= 0.05 + 1e-9
    assert store.root.folders("recordings/a") == [open_store(store.root).recordings["a"].signal]


def test_threads_create_one_store_and_add_to_it(tmp_path: Path, describe: Callable, noise: Callable) -> None:
    labels = LabelSet(name="two", names=("rest", "task"))

    def ingest(number: int) -> None:
        info = describe(f"r{number}", subject=f"s{number}")
        create_store(tmp_path / "s", dataset="d", label_set=labels).write_recording(info, noise(info, number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ingest, range(8)))
    store = open_store(tmp_path / "s")
    assert subjects_of(store.trials) == [f"s{number}" for number in range(8)]
    for number in range(8):
        name = f"r{number}"
        assert np.abs(stored(store, name) - noise(describe(name), number)).max() <= 0.05 + 1e-9


def test_a_store_sees_what_another_process_added(store: Store, describe: Callable, noise: Callable) -> None:
    assert not store.recordings
    open_store(store.root).write_recording(describe(), noise(describe()))
    assert store.find("a") is not None


def test_half_created_stores_are_completed(tmp_path: Path, labels: LabelSet) -> None:
    (tmp_path / "s" / "recordings").mkdir(parents=True)
    (tmp_path / "s" / "zarr.abc.partial").touch()
    assert create_store(tmp_path / "s", dataset="d", label_set=labels).dataset == "d"


def test_what_killed_writers_left_is_swept(tmp_path: Path, labels: LabelSet) -> None:
    store = create_store(tmp_path, dataset="d", label_set=labels)
    for key in ("zarr.json.1a.partial", "index/trials.parquet.2b.partial", "recordings/r/zarr.json.3c.partial"):
        store.root.write(key, b"x")
    store.root.write("mine.partial", b"x")
    remove_leftovers(store, [])
    assert sorted(store.root.files()) == ["mine.partial", "recordings/zarr.json", "zarr.json"]


def test_locks_are_not_foreign(tmp_path: Path, labels: LabelSet) -> None:
    for name in (*LOCKS, "recordings/zarr.json.1a.partial"):
        locate(tmp_path).write(name, b"")
    create_store(tmp_path, dataset="d", label_set=labels)


def test_create_store_refuses_what_is_in_the_way(
    tmp_path: Path, labels: LabelSet, describe: Callable, noise: Callable
) -> None:
    create_store(tmp_path / "s", dataset="d", label_set=labels)
    with pytest.raises(InputError, match="holds data set d with labels rest, task"):
        create_store(tmp_path / "s", dataset="other", label_set=labels)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(InputError, match=r"other content \(letter\.txt\)"):
        create_store(tmp_path / "home", dataset="d", label_set=labels)
    (tmp_path / "music" / "recordings" / "song").mkdir(parents=True)
    with pytest.raises(InputError, match="other content"):
        create_store(tmp_path / "music", dataset="d", label_set=labels)
    with pytest.raises(InputError, match="cannot be written"):
        create_store(tmp_path / "home" / "letter.txt", dataset="d", label_set=labels)
    assert (tmp_path / "home" / "letter.txt").exists()


def test_open_store_refuses(tmp_path: Path, store: Store, describe: Callable, noise: Callable) -> None:
    with pytest.raises(InputError, match="no EEG store here"):
        open_store(tmp_path / "nowhere")
    foreign = tmp_path / "foreign.zarr"
    zarr.create_group(foreign)
    with pytest.raises(InputError, match="store format None, this version reads 2"):
        open_store(foreign)
    (foreign / "zarr.json").write_text("{not json")
    with pytest.raises(InputError, match="is damaged"):
        open_store(foreign)
    store.write_recording(describe(), noise(describe()))
    card = store.root.path / "recordings" / "a" / "zarr.json"
    content = json.loads(card.read_text())
    del content["attributes"]["channels"]
    card.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"recordings/a/zarr\.json: is damaged"):
        _ = open_store(store.root).recordings


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda signal: signal[:, :-1], "is not channels x times"),
        (lambda signal: np.where(signal == signal[0, 0], np.nan, signal), "NaN or infinite"),
        (lambda signal: signal * np.inf, "NaN or infinite"),
    ],
)
def test_bad_signals_are_refused_and_change_nothing(
    spoil: Callable, problem: str, store: Store, describe: Callable, noise: Callable
) -> None:
    info = describe()
    written = store.write_recording(info, noise(info))
    with pytest.raises(InputError, match=problem):
        store.write_recording(info, spoil(noise(info)))
    assert store.find("a") == written


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "a\n"])
def test_recording_names_stay_inside_the_store(name: str, describe: Callable) -> None:
    with pytest.raises(ValidationError):
        describe(name)


def test_trials_lie_inside_their_recording(describe: Callable) -> None:
    info = describe(lengths=(100,))
    for start, stop in ((0, 101), (50, 50), (60, 50)):
        trial = Trial(trial=1, position=1, clip=1, start=start, stop=stop)
        with pytest.raises(ValidationError, match="of 100 samples"):
            RecordingInfo.model_validate(info.model_dump() | {"trials": [trial.model_dump()]})
    twice = [info.trials[0].model_dump()] * 2
    with pytest.raises(ValidationError, match="two trials have one number"):
        RecordingInfo.model_validate(info.model_dump() | {"trials": twice})


def test_trials_are_ordered_and_labelled(store: Store, describe: Callable, noise: Callable) -> None:
    for name, subject, session in (("x", "s2", "1"), ("y", "s1", "2"), ("z", "s1", "1")):
        info = describe(name, lengths=(10, 20), subject=subject, session=session)
        store.write_recording(info, noise(info))
    assert list(store.trials["recording_id"]) == ["z", "z", "y", "y", "x", "x"]
    assert list(store.trials["label_id"]) == [1, 0] * 3
    store.require_labels()
    first = describe("w", lengths=(10,), subject="s3")
    bare = first.model_copy(update={"trials": (first.trials[0].model_copy(update={"label": None}),)})
    store.write_recording(bare, noise(bare))
    with pytest.raises(InputError, match=r"1 of 7 trials have no label \(first: w\)"):
        store.require_labels()


def test_digest_names_what_was_ingested(store: Store, describe: Callable, noise: Callable) -> None:
    info = describe()
    store.write_recording(info, noise(info))
    before = store.digest
    assert open_store(store.root).digest == before
    store.write_recording(info.model_copy(update={"ingest_digest": "1" * 64}), noise(info))
    assert store.digest != before


def test_silence_is_no_damage(store: Store, describe: Callable) -> None:
    info = describe()
    store.write_recording(info, np.zeros((3, 500)))
    assert not Windows(store, WindowConfig(window_seconds=5)).read([0]).any()
