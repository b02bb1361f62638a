"""SEED-VII raw and SEED-V: Neuroscan files written here byte by byte, read by MNE."""

import struct
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from storage.datasets.seed import SEED_V_LABELS, SEED_V_STARTS, SEED_V_STOPS
from storage.datasets.seed_vii import CLIP_LABELS
from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.readers import SeedVIIRawSource, SeedVSource
from storage.readers.cnt import read_cnt
from storage.readers.triggers import from_table, read_trigger_table
from storage.signal import SEED_CHANNELS, SignalConfig
from storage.store import create_store

FILE_CHANNELS = ("M1", *SEED_CHANNELS[::-1], "M2", "ECG", "HEO", "VEO")
STARTED = datetime(2022, 10, 1, 9, 30, 5)
NUM_TIMES = 10_000
MARKS = [(200 + 480 * (k // 2) + 300 * (k % 2), 1 + k % 2) for k in range(40)]
"""Sample and code of the triggers: trial k lies at 200 + 480 k, 300 samples long."""
PERSONAL = (b"Roe", b"Jane", b"4711", b"2022", b"10/01/22", b"09:30")

Event = tuple[int, int] | tuple[int, int, int]


def write_cnt(
    path: Path,
    signal: np.ndarray,
    events: Sequence[Event] = (),
    *,
    names: Sequence[str] = FILE_CHANNELS,
    sfreq_hz: int = 1000,
    gain: float = 1.0,
    started: datetime | None = STARTED,
    bads: Sequence[str] = (),
    dtype: str = "<i4",
) -> Path:
    """Write a Neuroscan file: header of 900 bytes, 75 a channel, samples interleaved, events of 19 bytes.

    `signal` is (n_chans, n_times) in steps of 1/204.8 µV; an event is (sample, code) or (sample, code, key).
    """
    header = bytearray(900)
    header[21:25], header[121:129] = b"4711", b"Roe Jane"
    header[143:145] = b"FR"
    if started is not None:
        header[225:233], header[235:243] = started.strftime("%m/%d/%y").encode(), started.strftime("%H:%M:%S").encode()
    num_bytes = np.dtype(dtype).itemsize
    place = 900 + 75 * len(names) + signal.size * num_bytes
    for at, form, value in (
        *((370, "<H", len(names)), (376, "<H", sfreq_hz), (439, "b", 1), (864, "<i", signal.shape[1])),
        *((869, "<f", 0.05), (886, "<i", place), (890, "<f", signal.shape[1] / sfreq_hz)),
    ):
        struct.pack_into(form, header, at, value)
    for number, name in enumerate(names):
        electrode = bytearray(75)
        electrode[: len(name)] = name.encode()
        electrode[14] = name in bads
        struct.pack_into("<ff", electrode, 19, np.cos(number), np.sin(number))
        struct.pack_into("<f", electrode, 59, gain)
        struct.pack_into("<f", electrode, 71, 1.0)
        header += electrode
    table = b"".join(_event(sample, code, key[0] if key else 0, len(names), num_bytes) for sample, code, *key in events)
    path.parent.mkdir(parents=True, exist_ok=True)
    tail = struct.pack("<Bll", 2, len(table), 0) + table
    path.write_bytes(bytes(header) + signal.T.astype(dtype).tobytes() + tail)
    return path


def _event(sample: int, code: int, key: int, num_channels: int, num_bytes: int) -> bytes:
    offset = 900 + 75 * num_channels + (sample + 1) * num_channels * num_bytes
    return struct.pack("<HBBlhhfBBB", code, 0, key, offset, 0, 0, 0.0, 0, 0, 0)


def steps(num_channels: int = len(FILE_CHANNELS), num_times: int = NUM_TIMES) -> np.ndarray:
    """Noise of 20 µV, each channel with an offset of its own, in steps of the file."""
    noise = np.random.default_rng(0).normal(0, 20, (num_channels, num_times))
    return np.rint((noise + np.arange(num_channels)[:, None]) * 204.8)


def expected_uv(signal: np.ndarray) -> np.ndarray:
    return signal[[FILE_CHANNELS.index(channel) for channel in SEED_CHANNELS]] / 204.8


def write_table(root: Path, stem: str, rows: Sequence[tuple[int, int]], started: datetime = STARTED) -> Path:
    """Write a trigger table: code and moment of samples after `started`."""
    path = root / "save_info" / f"{stem}_trigger_info.csv"
    path.parent.mkdir(exist_ok=True)
    moments = [(started + timedelta(milliseconds=sample), code) for sample, code in rows]
    path.write_text(
        "".join(f"{code},{moment.isoformat(sep=' ', timespec='microseconds')}\n" for moment, code in moments)
    )
    return path


Make = Callable[..., SeedVIIRawSource]


@pytest.fixture
def make(tmp_path: Path, twin_root: Path) -> Make:
    """Write one recording of SEED-VII with these events."""

    def build(events: Sequence[Event] = MARKS, stem: str = "3_20221001_2", **options: object) -> SeedVIIRawSource:
        root = tmp_path / "SEED-VII"
        write_cnt(root / "EEG_raw" / f"{stem}.cnt", steps(), events, **options)
        book = "emotion_label_and_stimuli_order.xlsx"
        (root / book).write_bytes((twin_root / book).read_bytes())
        return SeedVIIRawSource(root=root)

    return build


@pytest.mark.parametrize("dtype", ["<i4", "<i2"])
def test_a_recording_comes_whole_in_microvolts_and_in_order(dtype: str, tmp_path: Path) -> None:
    path = write_cnt(tmp_path / "a.cnt", steps(), [(50, 7), (60, 1, 5)], bads=["OZ", "M1", "AF3"], dtype=dtype)
    recording = read_cnt(path)
    assert np.allclose(recording.signal_uv, expected_uv(steps()), atol=1e-4)
    assert recording.bads == ("AF3", "OZ")
    assert recording.events == ((0.05, "7"), (0.06, "KeyPad Response 5"))
    assert recording.started == STARTED
    assert recording.provenance["dropped_channels"] == ["M1", "M2", "ECG", "HEO", "VEO"]
    assert recording.provenance["highpass_hz"] == pytest.approx(0.05)


def test_trials_lie_between_the_triggers(make: Make) -> None:
    source = make([(0, 9), *MARKS, (9_990, 1, 4)])
    labels = source.root / "continuous_labels" / "3.mat"
    labels.parent.mkdir()
    savemat(labels, {str(clip): np.full((1, 2), clip / 100) for clip in range(1, 81)})
    (ref,) = source.list_recordings()
    assert (ref.recording_id, ref.subject, ref.session) == ("sub-03_ses-2", "03", "2")
    assert source.files_of(ref) == (ref.path, labels)
    recording = source.read(ref)
    assert recording.channels == SEED_CHANNELS
    assert recording.sfreq_hz == 1000
    (piece,) = recording.pieces
    assert np.allclose(piece, expected_uv(steps()), atol=1e-4)
    assert [(span.start, span.stop) for span in recording.trials] == [(200 + 480 * k, 500 + 480 * k) for k in range(20)]
    assert [span.clip for span in recording.trials] == list(range(21, 41))
    assert [span.label for span in recording.trials] == list(CLIP_LABELS[20:40])
    assert recording.trials[3].intensity == (0.24, 0.24)
    assert recording.provenance["trials_from"] == "triggers"


def test_incomplete_triggers_give_way_to_the_table(make: Make) -> None:
    source = make([mark for k, mark in enumerate(MARKS) if k not in (5, 6, 39)])
    (ref,) = source.list_recordings()
    table = write_table(source.root, ref.path.stem, MARKS, STARTED + timedelta(seconds=0.2))
    assert source.files_of(ref) == (ref.path, table)
    recording = source.read(ref)
    assert [(span.start, span.stop) for span in recording.trials] == [
        (200 + 480 * k, 500 + 480 * k) for k in range(20)
    ], "the triggers that are there tell the fraction of the second at which the recording started"
    assert recording.provenance["trials_from"] == "trigger table"


@pytest.mark.parametrize(
    ("stem", "started"),
    [
        ("14_20221015_1", datetime(2022, 10, 15, 14, 25, 34)),
        ("9_20221111_3", datetime(2022, 11, 11, 14, 1, 27)),
    ],
)
def test_the_two_documented_recordings_follow_their_tables(stem: str, started: datetime, make: Make) -> None:
    source = make([(sample + 90, code) for sample, code in MARKS], stem=stem)
    (ref,) = source.list_recordings()
    store = create_store(source.root / "st", dataset="raw", label_set=source.label_set)
    with pytest.raises(InputError, match=r"_trigger_info\.csv: no such file"):
        source.read(ref)
    with pytest.raises(InputError, match=r"_trigger_info\.csv: no such file"):
        ingest_recording(store, source, ref, SignalConfig())
    write_table(source.root, stem, MARKS, started)
    recording = source.read(ref)
    assert [(span.start, span.stop) for span in recording.trials] == [(200 + 480 * k, 500 + 480 * k) for k in range(20)]
    assert recording.provenance["trials_from"] == "trigger table, documented start"
    assert ingest_recording(store, source, ref, SignalConfig())


def test_a_wrong_number_of_triggers_is_refused_with_both_counts(make: Make) -> None:
    source = make(MARKS[:-1])
    (ref,) = source.list_recordings()
    counts = "20 start and 19 end triggers in the recording, {} in 3_20221001_2_trigger_info.csv, expected 20 of each"
    with pytest.raises(InputError) as caught:
        source.read(ref)
    assert f"{ref.path}: {counts.format('0 start and 0 end triggers')}" in str(caught.value)
    write_table(source.root, ref.path.stem, MARKS[2:])
    with pytest.raises(InputError) as caught:
        source.read(ref)
    assert f"{ref.path}: {counts.format('19 start and 19 end triggers')}" in str(caught.value)


def test_starts_and_ends_out_of_turn_are_no_trials(make: Make) -> None:
    source = make([(sample, 3 - code) for sample, code in MARKS])
    with pytest.raises(InputError, match=r"20 start and 20 end triggers in the recording, 0 start .* alternating"):
        source.read(source.list_recordings()[0])


def test_a_table_that_contradicts_its_recording_is_refused(make: Make) -> None:
    source = make(MARKS[:6])
    (ref,) = source.list_recordings()
    write_table(source.root, ref.path.stem, MARKS, STARTED + timedelta(minutes=2))
    with pytest.raises(InputError, match=r"trigger 1 at 0\.2 s is 1\d\d\.\d s away from its trigger table"):
        source.read(ref)
    source = make([], started=None)
    with pytest.raises(InputError, match=r"no recording time by which to place 3_20221001_2_trigger_info\.csv"):
        source.read(ref)
    source = make([])
    with pytest.raises(InputError, match=r"its trials at 120\.2 to 129\.\d s do not lie in order within its 10\.0 s"):
        source.read(ref)


@pytest.mark.parametrize("text", ["start,end\n", "1\n", "1,yesterday\n", "<html>\n"])
def test_a_table_of_another_form_is_named_by_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeff1,2022-10-01 09:30:05.250000\n\n" + text, encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.csv:3: does not hold a trigger with its date and time"):
        read_trigger_table(path)
    path.write_text("1,2022-10-01 09:30:05.25\n2.0, 2022-10-01 09:30:06\n9,2022-10-01 09:30:07\n")
    rows = read_trigger_table(path)
    assert from_table(rows, STARTED, [], "x") == [(0.25, "1"), (1.0, "2")]


def test_nothing_personal_reaches_the_store(make: Make, tmp_path: Path) -> None:
    source = make()
    (ref,) = source.list_recordings()
    assert all(word in ref.path.read_bytes() + ref.path.name.encode() for word in PERSONAL)
    store = create_store(tmp_path / "st", dataset="raw", label_set=source.label_set)
    assert ingest_recording(store, source, ref, SignalConfig(sfreq_hz=200))
    info = store.find("sub-03_ses-2")
    assert info is not None
    assert info.channels == SEED_CHANNELS
    assert info.n_times == NUM_TIMES // 5
    assert [(trial.start, trial.stop) for trial in info.trials] == [(40 + 96 * k, 100 + 96 * k) for k in range(20)]
    described = b"".join(path.read_bytes() for path in (tmp_path / "st").rglob("*.json"))
    assert b"sub-03_ses-2" in described or b"CPZ" in described
    assert [word for word in PERSONAL if word in described] == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"gain": 1e3}, "about 1,000 times too large for EEG"),
        ({"gain": 0.0}, r"MNE cannot read it \(Bad cals"),
        ({"sfreq_hz": 500}, "is sampled at 500 Hz, expected 1000"),
        ({"names": [name.replace("CB", "E") for name in FILE_CHANNELS]}, "lacks 2 of 62 electrodes: CB1, CB2"),
        (
            {"names": ["FP1" if name == "FPZ" else name for name in FILE_CHANNELS]},
            "channels named twice: 2 are called FP1",
        ),
    ],
)
def test_other_recordings_are_refused(options: dict[str, object], problem: str, make: Make) -> None:
    source = make(**options)
    with pytest.raises(InputError, match=problem):
        source.read(source.list_recordings()[0])


@pytest.mark.parametrize("length", [0, 300, 899, 3_000, 500_000, -1, -200])
def test_cut_recordings_are_refused(length: int, make: Make) -> None:
    source = make()
    (ref,) = source.list_recordings()
    ref.path.write_bytes(ref.path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"3_20221001_2\.cnt: ") as caught:
        source.read(ref)
    assert "\n" not in str(caught.value)
    assert not any(word.decode() in str(caught.value) for word in (b"Roe", b"Jane", b"4711"))
    ref.path.write_text("<html>403 Forbidden</html>" * 100)
    with pytest.raises(InputError, match="MNE cannot read it"):
        source.read(ref)
    ref.path.unlink()
    with pytest.raises(InputError, match="no such file"):
        source.read(ref)


def test_files_that_do_not_fit_are_named(make: Make) -> None:
    source = make()
    folder = source.root / "EEG_raw"
    (folder / "3_20221002_2.cnt").touch()
    with pytest.raises(InputError, match=r"3_20221002_2\.cnt: is a second file of subject 3, session 2"):
        source.list_recordings()
    (folder / "3_20221002_2.cnt").rename(folder / "3_20221002_5.cnt")
    with pytest.raises(InputError, match="its name does not give subject, session and date"):
        source.list_recordings()
    (folder / "3_20221002_5.cnt").unlink()
    (source.root / "emotion_label_and_stimuli_order.xlsx").unlink()
    with pytest.raises(InputError, match="workbook is missing"):
        source.list_recordings()
    with pytest.raises(InputError, match="no EEG_raw"):
        SeedVIIRawSource(root=folder).list_recordings()


@pytest.fixture
def short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED-V's clips a hundred times as fast, so that a recording lasts half a minute."""
    for name, times in (("SEED_V_STARTS", SEED_V_STARTS), ("SEED_V_STOPS", SEED_V_STOPS)):
        fast = tuple(tuple(second / 100 for second in session) for session in times)
        monkeypatch.setattr(f"storage.readers.seed_v.{name}", fast)


def seed_v(root: Path, num_times: int, stem: str = "7_2_20180418") -> SeedVSource:
    names = ("M1", "M2", *SEED_CHANNELS, "VEO", "HEO")
    write_cnt(root / "EEG_raw" / f"{stem}.cnt", steps(len(names), num_times), names=names)
    return SeedVSource(root=root)


@pytest.mark.usefixtures("short_clips")
def test_seed_v_clips_lie_at_published_times(tmp_path: Path) -> None:
    source = seed_v(tmp_path, 28_500)
    (ref,) = source.list_recordings()
    assert (ref.recording_id, ref.session) == ("sub-07_ses-2", "2")
    recording = source.read(ref)
    assert [(span.start, span.stop) for span in recording.trials] == [
        (10 * start, 10 * stop) for start, stop in zip(SEED_V_STARTS[1], SEED_V_STOPS[1], strict=True)
    ]
    assert [span.clip for span in recording.trials] == list(range(16, 31))
    assert tuple(span.label for span in recording.trials) == SEED_V_LABELS[1]
    assert np.allclose(recording.pieces[0], steps(66, 28_500)[2:64] / 204.8, atol=1e-4)
    store = create_store(tmp_path / "st", dataset="SEED-V", label_set=source.label_set)
    assert ingest_recording(store, source, ref, SignalConfig(sfreq_hz=200))
    info = store.find("sub-07_ses-2")
    assert info is not None
    assert info.trials[0].start == 60
    assert "2018" not in info.model_dump_json()


@pytest.mark.usefixtures("short_clips")
def test_a_seed_v_recording_that_ends_early_is_refused(tmp_path: Path) -> None:
    source = seed_v(tmp_path, 28_000)
    with pytest.raises(InputError, match=r"lasts 28 s, but its last clip ends at 28\.17 s"):
        source.read(source.list_recordings()[0])


def test_a_repaired_file_takes_the_place_of_the_broken_one(tmp_path: Path) -> None:
    folder = tmp_path / "EEG_raw"
    folder.mkdir()
    for stem in ("7_1_20180411", "7_1_20180411_repaired", "10_1_20180507"):
        (folder / f"{stem}.cnt").touch()
    refs = SeedVSource(root=tmp_path).list_recordings()
    assert [ref.path.stem for ref in refs] == ["7_1_20180411_repaired", "10_1_20180507"]


def test_seed_v_times_of_the_user_must_be_the_published_ones(tmp_path: Path) -> None:
    source = seed_v(tmp_path, 100)
    text = "".join(
        f"Session {number}:\nstart_second: {list(starts)}\nend_second: {list(stops)}\n\n"
        for number, (starts, stops) in enumerate(zip(SEED_V_STARTS, SEED_V_STOPS, strict=True), start=1)
    )
    path = tmp_path / "trial_start_end_timestamp.txt"
    path.write_text(text)
    assert len(source.list_recordings()) == 1
    path.write_text(text.replace("646", "647"))
    with pytest.raises(InputError, match="session 2 start 4 is 647, but was published as 646"):
        source.list_recordings()
    path.write_text(text[:200])
    with pytest.raises(InputError, match="does not list starts and ends of sessions 1, 2, 3"):
        source.list_recordings()
