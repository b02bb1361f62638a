"""The lock of a bucket, on servers of every kind."""

import itertools
import threading
import time

import pytest

from e2llm_core.inputs import OWNER
from jobs.run_folder import RunFolder
from storage.errors import InputError
from storage.places.lock import only_ingest, only_job, writing
from storage.places.s3.access import Unconditional
from storage.places.s3.bucket import Bucket
from storage.places.s3.lease import LOCK, Lease

SILENCE_SECONDS = 3.0
"""A holder that is to live is heard of six times in it, on a busy machine, too."""
IGNORED, REFUSED = "ignored", "refused"


class MemoryBucket(Bucket):
    """Objects in memory, of a server that may ignore or refuse a condition, break, or hang."""

    seconds_between_looks = 0.02

    def __init__(self, **conditions: str) -> None:
        super().__init__("s3://made/up")
        self.conditions = conditions
        self.objects_there: dict[str, tuple[bytes, str]] = {}
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self._numbers = itertools.count()

    def write(self, key: str, content: bytes) -> None:
        self.objects_there[key] = (content, f"v{next(self._numbers)}")

    def write_if(self, key: str, content: bytes, tag: str | None) -> str | None:
        self.answers.wait(20)
        if self.error:
            raise self.error
        kind = self.conditions.get("creates" if tag is None else "replaces", "")
        if kind == REFUSED:
            raise Unconditional
        if kind != IGNORED and self.objects_there.get(key, (b"", None))[1] != tag:
            return None
        self.write(key, content)
        return self.objects_there[key][1]

    def read_version(self, key: str) -> tuple[bytes, str]:
        try:
            return self.objects_there[key]
        except KeyError:
            raise FileNotFoundError(key) from None

    def read(self, key: str) -> bytes:
        return self.read_version(key)[0]

    def exists(self, key: str) -> bool:
        return key in self.objects_there

    def remove(self, key: str) -> None:
        self.objects_there.pop(key, None)


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2LLM_S3_LEASE_SECONDS", str(SILENCE_SECONDS))


def lock(holder: str | None) -> bytes:
    return Lease(holder=holder, started="now", seconds=0.01, beat=3).content()


@pytest.mark.parametrize("left", ["nothing", "released", "killed"])
@pytest.mark.parametrize("conditions", [{"replaces": REFUSED}, {"replaces": IGNORED}, {"creates": IGNORED}])
def test_a_server_without_a_condition_has_no_lock_and_keeps_none(left, conditions, capsys) -> None:
    bucket = MemoryBucket(**conditions)
    if left != "nothing":
        bucket.write(LOCK, lock("somebody" if left == "killed" else None))
    for _ in range(2):
        with only_ingest(bucket) as token:
            assert token == ""
            assert not bucket.exists(LOCK)
    assert capsys.readouterr().out.count("this server has no locks") == 2


@pytest.mark.parametrize("left", [None, lock(None), lock("somebody")])
def test_a_server_with_both_conditions_has_locks(left: bytes | None, capsys) -> None:
    bucket = MemoryBucket()
    if left:
        bucket.write(LOCK, left)
    with only_ingest(bucket) as token:
        assert token in bucket.read(LOCK).decode()
    assert Lease.model_validate_json(bucket.read(LOCK)).holder is None
    assert "no locks" not in capsys.readouterr().out


def hold(bucket: MemoryBucket, fault: str) -> None:
    with only_job(bucket):
        if fault == "hangs":
            bucket.answers.clear()
        else:
            bucket.error = RuntimeError("something unforeseen")
        try:
            time.sleep(20)
        finally:
            bucket.answers.set()


@pytest.mark.parametrize(("fault", "why"), [("hangs", "does not answer"), ("breaks", "RuntimeError")])
def test_a_lock_that_cannot_be_renewed_is_lost_before_another_may_take_it(fault: str, why: str) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"could not be renewed for 3 s \(.*{why}\)"):
        hold(MemoryBucket(), fault)
    assert SILENCE_SECONDS / 2 < time.monotonic() - started < 15


def test_trouble_that_passes_loses_nothing() -> None:
    bucket = MemoryBucket()
    with only_job(bucket) as confirm:
        bucket.error = RuntimeError("something unforeseen")
        time.sleep(0.3 * SILENCE_SECONDS)
        bucket.error = None
        before = Lease.model_validate_json(bucket.read(LOCK))
        time.sleep(0.9 * SILENCE_SECONDS)
        confirm()
        after = Lease.model_validate_json(bucket.read(LOCK))
        assert (after.holder, after.beat > before.beat) == (before.holder, True)


def lose(bucket: MemoryBucket, other: bytes) -> None:
    with only_job(bucket) as confirm, RunFolder("s3://made/up", "a" * 64).claimed({}, {}, confirm):
        bucket.write(LOCK, lock("another"))
        bucket.write(OWNER, other)
        time.sleep(20)


def test_a_job_that_lost_its_run_writes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, other = MemoryBucket(), b'{"digest": "another"}'
    monkeypatch.setattr("jobs.run_folder.locate", lambda path: bucket)
    with pytest.raises(InputError, match="another has taken over"):
        lose(bucket, other)
    assert bucket.read(OWNER) == other
    assert not bucket.exists("DONE.json")


def test_a_worker_asks_again_before_it_publishes() -> None:
    bucket = MemoryBucket()
    with only_ingest(bucket) as token, writing(bucket, token) as confirm:
        confirm()
        held = bucket.objects_there[LOCK]
        bucket.objects_there[LOCK] = (lock("another"), held[1])
        with pytest.raises(InputError, match="the ingest of this worker has ended"):
            confirm()
