"""What runs and models in a bucket are made of, over the real protocol."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from cluster.progress import follow
from cluster.train.recovery import newest_checkpoint
from cluster.train.stopping import StopRequest
from e2llm_core.training.checkpoint import Checkpoints, TrainerState
from e2llm_core.training.status import RunReader
from e2llm_core.training.world import World
from jobs.run_folder import RunFolder
from storage.errors import InputError
from storage.places.fetching import SETTINGS, fetched, fetched_file
from storage.places.location import locate
from storage.places.s3 import bucket
from storage.places.workspace import Workspace, working_folder
from tests.s3_server import FaultyProxy, faulty_proxy, first_tries, lead_to, s3_server
from tests.training_faults import wait

pytestmark = [pytest.mark.integration]
PART_BYTES = 5 * 2**20
"""The smallest that the protocol allows."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server("eeg") as port:
        yield port


@pytest.fixture
def network(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyProxy]:
    with faulty_proxy(port) as proxy:
        environment = {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
            "E2LLM_S3_PATIENCE_SECONDS": "20",
            "E2LLM_S3_STALLED_SECONDS": "1",
            "E2LLM_SCRATCH": str(tmp_path / "scratch"),
        }
        lead_to(proxy, monkeypatch, environment)
        yield proxy


@pytest.fixture
def url(network: FaultyProxy, tmp_path: Path) -> str:
    """A run of its own for each test."""
    return f"s3://eeg/{tmp_path.name.replace('_', '-')}/run"


def puts(network: FaultyProxy) -> list[str]:
    """Objects that were written since the plan began, in order; without what tmp_path and the bucket are called."""
    return [path.split("?")[0].split("/run/", 1)[1] for method, path in network.tries if method == "PUT"]


class Writer:
    """Stands in for the engine: each rank writes a file that is sent as the real ones are."""

    def __init__(self, workspace: Workspace, rank: int = 0) -> None:
        self.workspace, self.rank, self.loaded = workspace, rank, ""
        self.is_saving = False

    def save(self, folder: Path) -> None:
        self.path = folder / "zero" / f"rank-{self.rank}.pt"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"{folder.name.split('.')[0]} of rank {self.rank}")

    def finish_saving(self) -> None:
        self.workspace.send_file(self.path)

    def load(self, folder: Path) -> None:
        self.loaded = (folder / "zero" / f"rank-{self.rank}.pt").read_text()


def begun(url: str, node: int = 0) -> tuple[Checkpoints, Writer]:
    workspace = Workspace(url, node)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    return Checkpoints(workspace, 1, World()), Writer(workspace)


def test_a_checkpoint_is_visible_as_a_whole_and_found_on_another_node(url: str, network: FaultyProxy) -> None:
    checkpoints, engine = begun(url)
    (Workspace(url, 0).folder / "metrics.jsonl").write_text("rows\n")
    for step in (3, 6):
        network.follow(first_tries())
        checkpoints.save(engine, TrainerState(step, 1))
        assert newest_checkpoint(url) == ("" if step == 3 else "step-000003")
        checkpoints.finish(engine)
        assert newest_checkpoint(url) == f"step-{step:06d}"
        *files, marker = puts(network)
        assert marker == f"checkpoints/step-{step:06d}/COMPLETE", "written last"
        assert [name.rsplit("/", 1)[-1] for name in files][:2] == ["rank-0.pt", "state.json"]
    checkpoints.save(engine, TrainerState(9, 1))  # killed before the end

    shutil.rmtree(Workspace(url, 0).folder)
    other, reader = begun(url, node=1)
    assert other.resume(reader) == TrainerState(6, 1)
    assert reader.loaded == "step-000006 of rank 0"
    assert not list(other.root.glob("step-*")), "a copy lives no longer than it is read"
    there = {key.split("/")[1].split(".")[0] for key in locate(url).files("checkpoints")}
    assert there == {"step-000006"}, "old ones are removed"


def test_a_worker_that_was_given_up_spoils_no_other_attempts_checkpoint(url: str) -> None:
    given_up, late = begun(url)
    given_up.save(late, TrainerState(3, 1))
    checkpoints, engine = begun(url, node=1)
    checkpoints.save(engine, TrainerState(3, 1))
    checkpoints.finish(engine)
    late.path.parent.mkdir(parents=True, exist_ok=True)
    late.path.write_text("late")
    late.finish_saving()
    reader = Writer(engine.workspace)
    checkpoints.resume(reader)
    assert reader.loaded == "step-000003 of rank 0"


def test_a_bucket_that_takes_nothing_costs_no_other_checkpoint(url: str, network: FaultyProxy, monkeypatch) -> None:
    checkpoints, engine = begun(url)
    checkpoints.save(engine, TrainerState(3, 1))
    checkpoints.finish(engine)
    monkeypatch.setenv("E2LLM_S3_PATIENCE_SECONDS", "1")
    checkpoints, engine = begun(url)
    network.follow(lambda method, path, number: "503" if method == "PUT" else None)
    checkpoints.save(engine, TrainerState(6, 1))
    with pytest.raises(InputError, match="a request to the object store failed"):
        checkpoints.finish(engine)
    network.follow(first_tries())
    assert newest_checkpoint(url) == "step-000003"


def test_only_what_has_changed_is_sent(url: str, network: FaultyProxy) -> None:
    workspace = Workspace(url, 0)
    board = workspace.folder / "tensorboard"
    board.mkdir(parents=True)
    names = ("progress.log", "metrics.jsonl", "tensorboard/*")
    for name in ("progress.log", "tensorboard/events", "metrics.jsonl", "private"):
        (workspace.folder / name).write_text("" if name == "metrics.jsonl" else "one\n")
    network.follow(first_tries("lost"))
    workspace.send(*names)
    assert sorted(locate(url).files()) == ["progress.log", "tensorboard/events"], "nothing empty, nothing else"

    other = Workspace(url, 1)
    other.fetch(*names)
    assert (other.folder / "progress.log").read_text() == "one\n"
    network.follow(first_tries())
    other.send(*names)
    workspace.send(*names)
    assert puts(network) == []
    with (other.folder / "progress.log").open("a") as file:
        file.write("two\n")
    other.send(*names)
    assert puts(network) == ["progress.log"]

    locate(url).remove("tensorboard")
    workspace.fetch(*names)
    assert (workspace.folder / "progress.log").read_text() == "one\ntwo\n"
    assert list(board.iterdir()) == [], "what the run no longer has"


def test_a_folder_is_replaced_as_a_whole(url: str) -> None:
    workspace = Workspace(url, 0)
    for names in (["a.json", "deep/b.json"], ["a.json", "c.json"]):
        shutil.rmtree(workspace.folder, ignore_errors=True)
        for name in names:
            (workspace.folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
            (workspace.folder / "model" / name).write_text(name)
        workspace.send_folder("model")
        assert list(locate(url).files("model")) == [f"model/{name}" for name in names]


def test_a_model_is_copied_once_and_again_when_it_is_another(url: str, network: FaultyProxy) -> None:
    place = locate(url)
    for name in ("config.json", "weights.safetensors", "tokenizer/vocab.txt", "pytorch_model.bin"):
        place.write(f"model/{name}", name.encode())
    first = fetched(f"{url}/model")
    found = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert found == {"config.json", "weights.safetensors", "tokenizer/vocab.txt"}, "no pickles"
    network.follow(first_tries())
    assert fetched(f"{url}/model") == first
    assert not [path for method, path in network.tries if "weights" in path], "nothing is read twice"
    assert not (fetched(f"{url}/model", SETTINGS) / "weights.safetensors").exists()
    place.write("model/weights.safetensors", b"others")
    second = fetched(f"{url}/model")
    assert (second / "weights.safetensors").read_bytes() == b"others"
    assert (first / "weights.safetensors").read_bytes() == b"weights.safetensors", "for those who read it"

    assert fetched_file(f"{url}/model/weights.safetensors").read_bytes() == b"others"
    for name, problem in (("none.safetensors", "no such file"), ("pytorch_model.bin", "is not a weights file")):
        with pytest.raises(InputError, match=problem):
            fetched_file(f"{url}/model/{name}")


@pytest.mark.parametrize("fault", ["500", "lost", "cut"])
def test_large_files_travel_in_parts(fault: str, url: str, network: FaultyProxy, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bucket, "_PART_BYTES", PART_BYTES)
    content = os.urandom(2 * PART_BYTES + 1000)
    (tmp_path / "large").write_bytes(content)
    place = bucket.Bucket(url)
    network.follow(first_tries(fault))
    place.upload(tmp_path / "large", "large")
    assert "partNumber=3" in " ".join(path for _, path in network.tries)
    place.download("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert network.injected[fault] >= 5


def test_a_long_listing_comes_in_pages_that_are_repeated_one_by_one(
    url: str, network: FaultyProxy, monkeypatch
) -> None:
    names = [f"folder/{number}" for number in range(6)]
    for name in names:
        locate(url).write(name, b"1")
    monkeypatch.setattr(bucket, "_PAGE", 3)
    network.follow(first_tries("503"))
    assert list(locate(url).files("folder")) == names
    assert list(network.tries.values()) == [2, 2, 2], "full, full, empty: each once more, by one layer"


def test_an_object_that_is_replaced_meanwhile_arrives_in_one_version(
    url: str, network: FaultyProxy, port: int, tmp_path: Path
) -> None:
    """As `e2llm watch` meets it, whose run sends its metrics again and again."""
    locate(url).write("metrics.jsonl", b"old and short\n")

    server = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")

    def replaced_between_head_and_get(method: str, path: str, number: int) -> None:
        if method == "GET" and number == 0:
            server.put_object(Bucket="eeg", Key=path.removeprefix("/eeg/"), Body=b"new and longer\n")

    network.follow(replaced_between_head_and_get)
    stored = bucket.Bucket(url).download("metrics.jsonl", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"new and longer\n"
    assert stored.size == len(b"new and longer\n")


def test_a_request_to_stop_and_progress_travel_through_the_bucket(url: str, capsys) -> None:
    launcher, place = StopRequest(url), locate(url)
    worker = StopRequest(url, launcher.begin())
    place.append("progress.log", b"of an earlier launch\n")
    with follow(place, "progress.log"), worker.watched() as is_asked:
        place.append("progress.log", b"step 1\nstep")
        assert not is_asked()
        launcher.make()
        wait(is_asked)
        place.append("progress.log", b" 2\n")
    assert capsys.readouterr().out == "step 1\nstep 2\n"


def test_a_run_belongs_to_its_spec_and_is_watched_by_its_url(url: str) -> None:
    run = RunFolder(url, "a" * 64)
    assert not run.is_done()
    with pytest.raises(InputError, match="no such run"):
        RunReader(url)
    with run.claimed({"kind": "tiny-llm", "train": {"max_steps": 2}}, {"python": "3"}):
        with pytest.raises(InputError, match="an interrupted run of a different spec"):
            RunFolder(url, "b" * 64).is_done()
        reader = RunReader(url)
        assert not reader.read().finished
        locate(url).write("metrics.jsonl", b'{"step": 1, "split": "train", "seconds": 1.0, "loss": 2.0}\n')
        locate(url).write("checkpoints/step-000001/COMPLETE", b"step-000001.writing-1")
    assert run.is_done()
    status = reader.read()
    assert (status.finished, status.step, status.checkpoints, status.place) == (True, 1, (1,), url)


def test_results_are_sent_when_they_are_whole(url: str) -> None:
    killed = working_folder(url)
    (killed.__enter__() / "summary.json").write_text("half of it")
    assert locate(url).files() == {}
    with working_folder(url) as folder:
        assert not list(folder.iterdir())
        (folder / "summary.json").write_text("all of it")
    assert locate(url).read("summary.json") == b"all of it"
    assert not folder.exists()


def test_several_processes_of_a_node_copy_a_model_once(url: str, network: FaultyProxy, monkeypatch) -> None:
    locate(url).write("model/weights.safetensors", b"w" * 1000)
    monkeypatch.setenv("E2LLM_S3_STALLED_SECONDS", "30")  # a request that is repeated would be counted
    network.follow(lambda method, path, number: "trickle" if number == 0 else None)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(fetched(f"{url}/model"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4
    assert len(set(folders)) == 1
    assert sum(n for (method, path), n in network.tries.items() if method == "GET" and "weights" in path) == 1
