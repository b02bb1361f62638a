"""Stores on S3, over the real protocol, through a network that fails."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from e2llm_core.plan import check_inputs
from jobs.load import SpecErrors, load_spec
from jobs.spec import SPECS
from jobs.verify import verify_store
from storage.damage import damaged_ranges, verify
from storage.errors import InputError
from storage.places.location import locate
from storage.store import Store, create_store, open_store
from storage.upkeep import remove_leftovers, surplus
from storage.windows import WindowConfig, Windows
from tests import ingest_loop
from tests.s3_server import FAULTS, FaultyProxy, faulty_proxy, first_tries, lead_to, s3_server, varied

pytestmark = [pytest.mark.integration]
ROOT = Path(__file__).resolve().parents[2]
BUCKET, KEY, SECRET = "eeg", "AKIATESTING", "very-secret-words"
CONFIG = WindowConfig(window_seconds=2.0, stride_seconds=1.3)
SFREQ_HZ = 80.0
PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server(BUCKET) as port:
        yield port


@pytest.fixture
def network(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy without faults; the environment leads to it."""
    with faulty_proxy(port) as proxy:
        environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "E2LLM_S3_PATIENCE_SECONDS": str(PATIENCE_SECONDS),
            "E2LLM_S3_STALLED_SECONDS": "0.5",
            "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "1",
        }
        lead_to(proxy, monkeypatch, environment)
        yield proxy


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    ingest_loop.write_sources(root, count=3, seconds=300)
    return root


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ingest_loop.ingest(source, str(tmp_path_factory.mktemp("local") / "store"), SFREQ_HZ)


@pytest.fixture(scope="module")
def one(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of one recording, for networks on which every request takes seconds."""
    root = tmp_path_factory.mktemp("one")
    shutil.copy(source / "r0.npy", root)
    return root


@pytest.fixture(scope="module")
def local_one(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ingest_loop.ingest(one, str(tmp_path_factory.mktemp("local") / "store"), SFREQ_HZ)


@pytest.fixture
def remote(network: FaultyProxy, source: Path, tmp_path: Path) -> Store:
    """A store of its own for each test."""
    return ingest_loop.ingest(source, f"s3://{BUCKET}/{tmp_path.name}/store", SFREQ_HZ)


def read_all(store: Store) -> np.ndarray:
    windows = Windows(open_store(store.root), CONFIG)
    return np.asarray(windows.read(np.arange(len(windows))))


def assert_same(remote: Store, local: Store) -> None:
    assert open_store(remote.root).digest == local.digest
    assert open_store(remote.root).trials.equals(local.trials)
    assert np.array_equal(read_all(remote), read_all(local))
    assert [found for _, found in verify(open_store(remote.root))] == [[]] * len(local.recordings)


def test_the_same_as_a_local_store(remote: Store, local: Store, source: Path, network: FaultyProxy) -> None:
    assert_same(remote, local)
    assert open_store(remote.root).recordings == local.recordings
    assert remote.root.num_bytes("recordings") == local.root.num_bytes("recordings")
    network.follow(first_tries())
    ingest_loop.ingest(source, str(remote.root), SFREQ_HZ)
    assert not [path for method, path in network.tries if method == "PUT" and "signal-" in path]  # unchanged
    assert not network.injected


def test_replace_remove_and_tidy(remote: Store, local: Store, source: Path) -> None:
    ingest_loop.ingest(source, str(remote.root), 50.0)
    store = open_store(remote.root)
    assert {info.sfreq_hz for info in store.recordings.values()} == {50.0}
    assert [store.root.folders(f"recordings/{name}") for name in store.recordings] == [
        [info.signal] for info in store.recordings.values()
    ]
    assert all(info.signal != local.recordings[name].signal for name, info in store.recordings.items())
    store.root.write("recordings/r0/signal-9/c/0/0", b"left by a killed writer")
    store.root.write("recordings/r9/signal-1/c/0/0", b"left by a killed writer")
    assert list(open_store(remote.root).recordings) == ["r0", "r1", "r2"]
    remove_leftovers(store, ["r0", "r9"])
    assert store.root.folders("recordings/r0") == [store.recordings["r0"].signal]
    assert store.root.folders("recordings") == ["r0", "r1", "r2"]
    assert surplus(store, ["r0"]) == ["r1", "r2"]
    store.remove_recording("r1")
    assert list(open_store(remote.root).recordings) == ["r0", "r2"]
    assert not store.root.num_bytes("recordings/r1")
    ingest_loop.ingest(source, str(remote.root), SFREQ_HZ)
    assert_same(remote, local)


def test_damage_is_found_and_named(remote: Store, capsys: pytest.CaptureFixture[str]) -> None:
    key = f"{remote.signal_key(remote.recordings['r1'])}/c/0/0"
    content = bytearray(remote.root.read(key))
    content[5000] ^= 4
    remote.root.write(key, bytes(content))
    remote.root.remove(f"{remote.signal_key(remote.recordings['r2'])}/c/0/1")
    windows = Windows(open_store(remote.root), CONFIG)
    with pytest.raises(InputError, match=r"recording r1: samples are missing or damaged \(.*c/0/0, bytes [\d,]+\.\."):
        windows.read(np.arange(len(windows)))
    assert verify_store(str(remote.root)) == 2
    damaged = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged: ")]
    assert [line.split(":")[1].strip() for line in damaged] == ["r1", "r2"]
    assert "the checksum does not match" in damaged[0]
    assert "the shard is missing" in damaged[1]
    assert " s)" in damaged[0]
    assert list(damaged_ranges(open_store(remote.root))) == ["r1", "r2"]


def test_large_objects(network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Larger than what clients upload in parts."""
    monkeypatch.setenv("E2LLM_S3_STALLED_SECONDS", "3")  # in which all of one has to be sent
    place = locate(f"s3://{BUCKET}/{tmp_path.name}")
    content = np.random.default_rng(0).bytes(12_000_000)
    network.follow(first_tries("lost", "cut"))
    place.write("large", content)
    assert place.read("large") == content
    assert place.read_range("large", 11_999_990, 13_000_000) == content[-10:]
    assert place.read_range("large", 12_000_000, 12_000_001) == b""


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_survived(fault: str, network: FaultyProxy, local_one: Store, one: Path, tmp_path: Path) -> None:
    """The first try of every single request fails."""
    network.stall_seconds = 3.0
    network.follow(first_tries(fault))
    remote = ingest_loop.ingest(one, f"s3://{BUCKET}/{tmp_path.name}", SFREQ_HZ)
    assert network.injected[fault] >= 10
    network.follow(first_tries(fault))
    assert_same(remote, local_one)
    assert network.injected[fault] >= 10


def test_mixed_faults_are_survived(network: FaultyProxy, local_one: Store, one: Path, tmp_path: Path) -> None:
    quick = [fault for fault in FAULTS if fault not in ("stall", "trickle")]
    network.follow(varied(seed=3, tries=3, faults=quick))
    remote = ingest_loop.ingest(one, f"s3://{BUCKET}/{tmp_path.name}", SFREQ_HZ)
    network.follow(varied(seed=4, tries=3, faults=quick))
    assert_same(remote, local_one)
    assert set(network.injected) == set(quick)


@pytest.mark.parametrize("fault", ["503", "stall", "refused"])
def test_a_dead_server_is_told_in_one_line(
    fault: str, remote: Store, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2LLM_S3_PATIENCE_SECONDS", "2")
    windows = Windows(open_store(remote.root), CONFIG)
    windows.read([0])
    network.follow(lambda method, path, number: fault)
    if fault == "refused":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    started = time.monotonic()
    with pytest.raises(InputError, match="a request to the object store failed") as met:
        open_store(str(remote.root))
    assert time.monotonic() - started < 20
    assert "\n" not in str(met.value)
    if fault != "refused":  # this one reads from the proxy
        started = time.monotonic()
        with pytest.raises(InputError, match="recording r0: no answer for 2 s") as met:
            windows.read([len(windows) // 3 - 1])  # of the recording that is open already
        assert time.monotonic() - started < 20
        assert "\n" not in str(met.value)


def test_a_bad_place_is_refused(network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    labels = ingest_loop.ArraySource(root=source).label_set
    with pytest.raises(InputError, match="status 404 NoSuchBucket"):
        create_store("s3://no-such-bucket/x", dataset="d", label_set=labels)
    with pytest.raises(InputError, match="no EEG store here"):
        open_store(f"s3://{BUCKET}/nothing")
    locate(f"s3://{BUCKET}/taken").write("thesis.pdf", b"mine")
    with pytest.raises(InputError, match=r"other content \(thesis.pdf\)"):
        create_store(f"s3://{BUCKET}/taken", dataset="d", label_set=labels)
    for url in ("localhost:9000", f"http://{KEY}:{SECRET}@127.0.0.1:9000", "nonsense"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(InputError, match="AWS_ENDPOINT_URL: is not the URL of a server") as met:
            open_store(f"s3://{BUCKET}/x")
        assert SECRET not in str(met.value)


def test_without_credentials(network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no credentials .* Set AWS_ACCESS_KEY_ID"):
        open_store(f"s3://{BUCKET}/x")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    network.authorisations.clear()
    with pytest.raises(InputError, match="no EEG store here"):
        open_store(f"s3://{BUCKET}/x")
    assert network.authorisations == {""}


def test_a_profile_is_not_overlooked(network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither client of ours reads ~/.aws as others do, and the machine's role would be the wrong one."""
    shared = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with pytest.raises(InputError, match=r"in an AWS profile, and profiles are not read.*export-credentials"):
        open_store(f"s3://{BUCKET}/x")
    monkeypatch.delenv("AWS_PROFILE")
    shared.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    with pytest.raises(InputError, match=r"in an AWS profile, and profiles are not read.*export-credentials") as met:
        open_store(f"s3://{BUCKET}/x")
    assert SECRET not in str(met.value)


def training_spec(store: str, folder: Path) -> Path:
    path = folder / "stage1.yaml"
    split = "{train: 1, validation: 1, test: 1}"
    path.write_text(f"kind: stage1\nrun: {folder}/run\ndata: {{store: '{store}', split: {split}}}\n")
    return path


def test_a_training_spec_names_it(remote: Store, local: Store, tmp_path: Path) -> None:
    from jobs.job import absolute

    loaded = load_spec(training_spec(str(remote.root), tmp_path), [], SPECS)
    spec = absolute(loaded.spec, tmp_path)
    assert spec.data.store == str(remote.root)
    assert check_inputs(spec.inputs()) == {"data.store": local.digest}


def test_credentials_are_told_nowhere(
    remote: Store, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd
) -> None:
    from cluster.environment import environment

    texts = [str(environment(ROOT)), repr(remote.root), str(remote.root), str(remote.root.tensorstore("a"))]
    url = f"s3://{KEY}:{SECRET}@{BUCKET}/x"
    with pytest.raises(SpecErrors, match=r"data\.store: ") as spec_error:
        load_spec(training_spec(url, tmp_path), [], SPECS)
    with pytest.raises(SpecErrors, match=r"data\.store: ") as override_error:
        load_spec(training_spec("x", tmp_path), [f"data.store={url}"], SPECS)
    with pytest.raises(InputError, match="holds credentials") as url_error:
        locate(url)
    monkeypatch.setenv("E2LLM_S3_PATIENCE_SECONDS", "1")
    network.follow(first_tries(*["500"] * 1000))
    with pytest.raises(InputError) as dead:
        open_store(str(remote.root))
    texts += [str(error.value) for error in (spec_error, override_error, url_error, dead)]
    texts += list(capfd.readouterr())
    assert not [text for text in texts if SECRET in text or KEY in text]
