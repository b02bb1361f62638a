"""One job per run and one ingest per store in a bucket, over the real protocol."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage.errors import InputError
from storage.places import lock
from storage.places.location import locate
from storage.places.lock import only_ingest, only_job, writing
from storage.places.s3.bucket import Bucket
from storage.places.s3.lease import LOCK
from tests.s3_server import FaultyProxy, faulty_proxy, first_tries, lead_to, s3_server

pytestmark = [pytest.mark.integration]
LEASE_SECONDS, KILLED_SECONDS, WAIT_SECONDS = 3.0, 0.6, 1.2
"""Of holders that live, on a busy machine, too; of one that is killed; of who waits."""
HOLDER = """
import sys, time
from storage.places.location import locate
from storage.places.lock import only_job
with only_job(locate(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server("eeg") as port:
        yield port


@pytest.fixture
def network(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with faulty_proxy(port) as proxy:
        environment = {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
            "E2LLM_S3_LEASE_SECONDS": str(LEASE_SECONDS),
            "E2LLM_S3_STALLED_SECONDS": "5",
            "E2LLM_S3_PATIENCE_SECONDS": "4",
        }
        lead_to(proxy, monkeypatch, environment)
        monkeypatch.setattr(Bucket, "seconds_between_looks", 0.05)
        monkeypatch.setattr(lock, "_WAIT_SECONDS", WAIT_SECONDS)
        yield proxy


@pytest.fixture
def run(network: FaultyProxy, tmp_path: Path) -> Bucket:
    found = locate(f"s3://eeg/{tmp_path.name.replace('_', '-')}/run")
    assert isinstance(found, Bucket)
    return found


def test_a_second_job_is_refused_and_one_after_the_first_is_not(run: Bucket, capsys) -> None:
    with only_job(run):
        with pytest.raises(InputError, match="another job is at work in this run") as refused, only_job(run):
            pytest.fail("two jobs in one run")
        (line,) = str(refused.value).splitlines()
        assert line.startswith(f"{run}: ")
        with only_job(locate(f"{run}-2")):
            pass
    with only_job(run):
        pass
    assert "waits for its end" in capsys.readouterr().out


def test_a_killed_job_keeps_the_next_one_out_for_a_while_only(run: Bucket, capsys) -> None:
    command = [sys.executable, "-c", HOLDER, str(run)]
    env = os.environ | {"E2LLM_S3_LEASE_SECONDS": str(KILLED_SECONDS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds\n"
        first.kill()
        first.wait()
        killed = time.monotonic()
        with only_job(run):
            assert time.monotonic() - killed >= KILLED_SECONDS
    assert "takes over" in capsys.readouterr().out


def test_a_job_that_was_taken_for_dead_ends(run: Bucket) -> None:
    """It is interrupted where it is, with one line, and leaves the other's lock alone."""
    other, reached = b'{"holder": "another", "started": "now", "seconds": 10.0, "beat": 1}', []

    def work() -> None:
        with only_job(run):
            run.write(LOCK, other)
            reached.append("taken over")
            time.sleep(30)
            reached.append("wrote on")

    with pytest.raises(InputError, match="another has taken over: nothing was heard of this one for 3 s"):
        work()
    assert reached == ["taken over"]
    assert run.read(LOCK) == other


def test_an_interrupt_by_hand_stays_one(run: Bucket) -> None:
    with pytest.raises(KeyboardInterrupt), only_job(run):
        raise KeyboardInterrupt
    with only_job(run):
        pass


@pytest.mark.parametrize("fault", ["500", "lost", "reset"])
def test_lost_answers_lose_no_lock(fault: str, run: Bucket, network: FaultyProxy) -> None:
    network.follow(first_tries(fault))
    with only_job(run):
        network.follow(first_tries(fault))
        time.sleep(1.2 * LEASE_SECONDS)
        with pytest.raises(InputError, match="another job"), only_job(run):
            pytest.fail("two jobs in one run")
    assert network.injected[fault]


def test_two_at_once_are_one(run: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found the lock free; only one PUT counts."""
    plain = Bucket.write_if
    with ExitStack() as other:

        def late(bucket: Bucket, key: str, content: bytes, tag: str | None) -> str | None:
            monkeypatch.setattr(Bucket, "write_if", plain)
            assert other.enter_context(only_ingest(run))
            return plain(bucket, key, content, tag)

        monkeypatch.setattr(Bucket, "write_if", late)
        with pytest.raises(InputError, match="another ingest"), only_ingest(run):
            pytest.fail("two ingests in one store")


def test_a_killed_ingest_keeps_the_next_one_out_for_a_while_only(run: Bucket) -> None:
    run.write(LOCK, b'{"holder": "killed", "started": "now", "seconds": 0.1, "beat": 7}')
    with only_ingest(run) as token:
        assert token


def test_a_worker_that_outlives_its_ingest_stops(run: Bucket) -> None:
    with only_ingest(run) as old, writing(run, old):
        pass
    with only_ingest(run) as new:
        with pytest.raises(InputError, match="has ended"), writing(run, old):
            pytest.fail("wrote for an ingest that has ended")
        with writing(run, new), writing(run, new):
            pass


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
@pytest.mark.parametrize("answer", ["ignores", "refuses"])
def test_a_server_without_conditional_writes_is_told_of(
    answer: str, condition: str, run: Bucket, monkeypatch, capsys
) -> None:
    def forward(handler, body: bytes):
        if answer == "refuses" and handler.command == "PUT" and handler.headers[condition]:
            return 501, [("content-type", "application/xml")], b"<Error><Code>NotImplemented</Code></Error>"
        del handler.headers[condition]
        return plain(handler, body)

    from tests import s3_server as server

    plain = server._Handler.forward
    monkeypatch.setattr(server._Handler, "forward", forward)
    with only_job(run), only_ingest(run) as token, writing(run, token):
        assert token == ""
        assert not run.exists(LOCK)
    assert capsys.readouterr().out.count("this server has no locks") == 2


def test_what_is_no_lock_is_named(run: Bucket) -> None:
    run.write(LOCK, b"{}")
    with pytest.raises(InputError, match=f"{LOCK}: is not a lock of this version"), only_job(run):
        pytest.fail("held what is no lock")
