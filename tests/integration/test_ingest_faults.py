"""Ingest under kill -9 and full disks: nothing half-visible, nothing lost, nothing twice."""

import errno
import itertools
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.damage import verify
from storage.errors import InputError
from storage.places.location import locate
from storage.places.lock import only_ingest, writing
from storage.store import open_store
from tests import ingest_loop
from tests.kills import ROOT, References, kill_at_random_moments, start

pytestmark = [pytest.mark.integration]
OLD_HZ, NEW_HZ = 100.0, 80.0
KILLS = 4  # tests/drills has the long form


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    ingest_loop.write_sources(root, count=6, seconds=400)
    return root


@pytest.fixture(scope="module")
def references(source: Path, tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = tmp_path_factory.mktemp("references")
    return References({rate: ingest_loop.ingest(source, str(folder / f"{rate}"), rate) for rate in (OLD_HZ, NEW_HZ)})


def test_killed_at_random_moments(source: Path, references: References, tmp_path: Path) -> None:
    place = tmp_path / "store"

    def begin() -> subprocess.Popen[str]:
        if place.exists() and len(open_store(place).root.folders("recordings")) == 6:
            assert start(source, str(place), OLD_HZ).wait() == 0
            references.check_finished(place, OLD_HZ)
            shutil.rmtree(place)
        return start(source, str(place), OLD_HZ, by_permit=True)

    check: Callable[[], object] = lambda: dict(references.check(str(place), complete=False))  # noqa: E731
    log = kill_at_random_moments(begin, check, KILLS, seed=1, recordings=6)
    assert sum("killed" in line for line in log) == KILLS
    assert start(source, str(place), OLD_HZ).wait() == 0
    references.check_finished(place, OLD_HZ)


def test_killed_while_replacing(source: Path, references: References, tmp_path: Path) -> None:
    place, rates = tmp_path / "store", itertools.cycle([NEW_HZ, OLD_HZ])
    ingest_loop.ingest(source, str(place), OLD_HZ)
    wanted = next(rates)

    def begin() -> subprocess.Popen[str]:
        nonlocal wanted
        if references.check(str(place), complete=True) == {wanted: 6}:
            wanted = next(rates)
        return start(source, str(place), wanted, by_permit=True)

    check: Callable[[], object] = lambda: dict(references.check(str(place), complete=True))  # noqa: E731
    log = kill_at_random_moments(begin, check, KILLS, seed=2, recordings=6)
    assert any(f"{OLD_HZ}:" in line and f"{NEW_HZ}:" in line for line in log), log
    assert start(source, str(place), wanted).wait() == 0
    references.check_finished(place, wanted)


def test_a_full_disk_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC at the first flush, the second, ...: one line, and the recordings are old or new as a whole."""
    source, place, flush = tmp_path / "source", tmp_path / "store", os.fsync
    ingest_loop.write_sources(source, count=2, seconds=10)
    references = References(
        {rate: ingest_loop.ingest(source, str(tmp_path / f"{rate}"), rate) for rate in (OLD_HZ, NEW_HZ)}
    )
    failures = 0
    for moment in itertools.count():
        shutil.rmtree(place, ignore_errors=True)
        ingest_loop.ingest(source, str(place), OLD_HZ)
        calls = itertools.count()

        def fail(handle: int, calls: Iterator[int] = calls, moment: int = moment) -> None:
            if next(calls) >= moment:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            try:
                ingest_loop.ingest(source, str(place), NEW_HZ)
            except InputError as error:
                refusal = str(error)
            else:
                break
        failures += 1
        assert references.check(str(place), complete=True).total() == 2
        assert "\n" not in refusal
        assert "No space left on device" in refusal
        ingest_loop.ingest(source, str(place), NEW_HZ)
        references.check_finished(place, NEW_HZ)
    assert failures > 20


FULL_DISK = """
import os, sys
from pathlib import Path
from tests import ingest_loop
from tests.kills import samples
from storage.damage import verify
from storage.errors import InputError
from storage.store import open_store

source, place = Path(sys.argv[1]), Path(sys.argv[2])
ingest_loop.ingest(source, str(place / "store"), 50.0)
before = samples(open_store(place / "store"))
space = os.statvfs(place)
ballast = place / "ballast"
ballast.write_bytes(b"x" * (space.f_bavail * space.f_bsize - 100_000))
try:
    ingest_loop.ingest(source, str(place / "store"), 100.0)
    sys.exit("the disk was not full")
except InputError as error:
    print(error)
store = open_store(place / "store")
assert not any(found for _, found in verify(store))
after = samples(store)
assert all((before[name] == after[name]).all() for name in before) and len(after) == len(before) == 6
ballast.unlink()
store = ingest_loop.ingest(source, str(place / "store"), 100.0)
assert {info.sfreq_hz for info in store.recordings.values()} == {100.0}
assert not any(found for _, found in verify(store))
assert all(len(store.root.folders(f"recordings/{name}")) == 1 for name in store.recordings)
"""


def test_a_disk_that_is_really_full(source: Path, tmp_path: Path) -> None:
    mount = "mount -t tmpfs -o size=8m tmpfs"
    script = f'{mount} "$0" && exec "$@"'
    disk = tmp_path / "disk"
    disk.mkdir()
    namespace = ["unshare", "-rm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, f'{mount} "$0"', disk], check=False).returncode:
        pytest.skip("this system gives no private mounts")
    done = subprocess.run(
        [*namespace, script, str(disk), sys.executable, "-c", FULL_DISK, str(source), str(disk)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line != ingest_loop.BEGIN]
    assert "cannot be written (No space left on device). Make room" in line


def test_a_limit_on_the_size_of_files(source: Path, references: References, tmp_path: Path) -> None:
    place = tmp_path / "store"
    ingest_loop.ingest(source, str(place), NEW_HZ)
    command = [sys.executable, "-m", "tests.ingest_loop", str(source), str(place), str(OLD_HZ)]
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    done = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "cannot be written (File too large)" in line
    assert references.check(str(place), complete=True) == {NEW_HZ: 6}
    assert not list(place.rglob("*.partial*"))


def test_one_ingest_at_a_time(source: Path, references: References, tmp_path: Path) -> None:
    place = tmp_path / "store"
    process = start(source, str(place), OLD_HZ, by_permit=True)
    with pytest.raises(InputError, match="another ingest is writing"):
        ingest_loop.ingest(source, str(place), OLD_HZ)
    process.kill()
    process.communicate()
    ingest_loop.ingest(source, str(place), OLD_HZ)  # the lock went with its holder
    references.check_finished(place, OLD_HZ)


def test_a_worker_that_outlives_its_ingest_stops(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    ingest_loop.ingest(source, str(place), OLD_HZ)
    root = locate(place)
    with only_ingest(root) as old, writing(root, old):
        pass
    with only_ingest(root) as new:
        with pytest.raises(InputError, match="has ended"), writing(root, old):
            pytest.fail("wrote for an ingest that has ended")
        with writing(root, new), writing(root, new):
            pass


def test_damage_is_not_taken_for_wholeness(source: Path, references: References, tmp_path: Path) -> None:
    """The checks of this file would find what they look for."""
    store = ingest_loop.ingest(source, str(tmp_path / "store"), OLD_HZ)
    shard = next((tmp_path / "store/recordings/r3").rglob("c/0/0"))
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    assert [name for name, found in verify(store) if found] == ["r3"]
    with pytest.raises(AssertionError):
        references.check(str(tmp_path / "store"), complete=True)
