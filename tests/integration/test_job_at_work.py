"""Jobs at work on a cluster: what outsiders can reach and see (docs/security.md), and what `ray job stop` leaves.

Ray Serve's own ports are tried in test_kubernetes_parts.py; drills stop every kind of job.
"""

import contextlib
import http.client
import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import ray
import yaml

from cluster.start.ports import HEAD_NAMES, HEAD_VARIABLES
from e2llm_core.stages.stage1.plan import Stage1Plan
from storage.store import open_store
from tests import ranks
from tests.processes import command_lines, listening
from tests.stops import StoppableJob, curve, wait_until_nothing_runs
from tests.tiny_jobs import RAY, TinyJobs, finish, submit
from tests.training_faults import FAULTY, make_store, stage1

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]
PUBLIC = {
    "/",
    "/favicon.ico",
    "/api/authentication_mode",
    "/api/healthz",
    "/api/gcs_healthz",
    "/api/local_raylet_healthz",
}
"""What Ray answers to anybody: its page without data, that tokens are asked for, and health."""
METRICS = ("metrics-export-port", *HEAD_VARIABLES)
"""Where Ray tells its metrics to anybody."""
HTTP = ("dashboard-port", "dashboard-agent-listen-port", "runtime-env-agent-port")
METHODS = {
    "port": ("NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVGet", "JobInfoGcsService/AddJob"),
    "node-manager-port": ("NodeManagerService/RequestWorkerLease", "NodeManagerService/GetNodeStats"),
    "object-manager-port": ("ObjectManagerService/Pull", "ObjectManagerService/Push"),
    "dashboard-agent-grpc-port": ("ReporterService/GetTraceback", "ReporterService/CpuProfiling"),
    "ray-client-server-port": ("RayletDriver/Init", "RayletDriver/KVGet"),
    "worker": ("CoreWorkerService/PushTask", "CoreWorkerService/KillActor"),
}
LONGEST_SECONDS = 8.0
MANY = 1_000_000
_ROUTE = re.compile(r"""(?:@\w+\.|web\.|add_)(get|post|put|delete)\(\s*f?"(/[^"]*)\"""")


@pytest.fixture(scope="module")
def cluster(one_cluster, told_secrets):
    """Where jobs are submitted by a shell that has secrets, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told_secrets.items():
            patch.setenv(name, value)
        yield one_cluster


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    return TinyJobs(tmp_path_factory.mktemp("jobs"), workers=1)


@pytest.fixture(scope="module")
def spec(jobs):
    """Of a training run without end, with two workers."""
    make_store(jobs.folder / "noise")
    plan = stage1(jobs.folder / "noise", max_steps=MANY, checkpoint_every=MANY, validate_every=MANY)
    resources = {"workers": 2, "cpus_per_worker": 0.5}
    return jobs.write("stage1", "training", **plan.model_dump(mode="json", exclude={"kind"}), resources=resources)


@pytest.fixture(scope="module")
def training(cluster, jobs, spec):
    """The job that runs it, a second for each step."""
    variables = {"PYTHONPATH": str(FAULTY), "E2LLM_TEST_FAULT": "slow:1", "E2LLM_TEST_MARK": str(jobs.folder / "mark")}
    job = StoppableJob(cluster, spec, variables=variables)
    job.wait(lambda: len(steps(jobs.run("training"))) >= 3)
    assert not job.has_ended, job.output
    return job


def steps(run: Path) -> list[dict]:
    return curve(run) if (run / "metrics.jsonl").exists() else []


def answer(port: int, path: str, method: str = "get", token: str | None = None) -> int | None:
    """HTTP status of a request to a port, None where HTTP is not spoken."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request(method.upper(), path, headers=headers)
        return connection.getresponse().status
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        connection.close()


def refusal(port: int, method: str, token: str | None) -> grpc.StatusCode:
    """How a gRPC service answers an empty call."""
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=120, metadata=metadata)
        return caught.value.code()


def routes() -> set[tuple[str, str]]:
    """Method and path of every HTTP route in the sources of Ray's dashboard and agents."""
    package = Path(ray.__file__).parent
    sources = [*package.glob("dashboard/**/*.py"), *package.glob("_private/runtime_env/agent/*.py")]
    found = {match for source in sources for match in _ROUTE.findall(source.read_text())}
    return {(method, re.sub(r"\{\w+\}", "x", path)) for method, path in found}


def contents(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file with its content, while a run writes and deletes there."""
    for folder in folders:
        for place, _, names in os.walk(folder):
            for path in (Path(place, name) for name in names):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file():
                        yield path, path.read_bytes()


def test_a_stopped_ingest_leaves_nothing_behind_and_finishes_when_it_is_submitted_again(cluster, jobs):
    """At a random moment, from its start on; a quick job may be over by then."""
    moment = random.Random(1).uniform(0, LONGEST_SECONDS)
    spec = jobs.write("ingest", twin={"num_subjects": 2, "clip_seconds": 4})
    run, place = jobs.run("ingest"), jobs.folder / "store.zarr"
    job = StoppableJob(cluster, spec)
    job.wait((run / "run.json").exists)
    until = time.monotonic() + moment
    job.wait(lambda: time.monotonic() > until)
    state = job.stop()
    assert state in ("stopped", "succeeded"), job.output
    assert (run / "DONE.json").exists() == (state == "succeeded")
    wait_until_nothing_runs(cluster, jobs.folder)

    finish(submit(cluster, "--", spec))
    assert (run / "DONE.json").exists()
    assert len(open_store(place).recordings) == 8
    assert not [*run.rglob("*.partial*"), *place.rglob("*.partial*")]


def test_nobody_listens_beyond_loopback(cluster, training):
    """While a job trains, too: the process group's store and the workers are among them."""
    found = listening(cluster)
    assert {ip for ip, _ in found} == {"127.0.0.1"}, found
    workers = [title for title in found.values() if "RayTrainWorker" in title]
    assert len(workers) >= 2 + 2 + 1, "two workers' Ray, two workers' gloo, one store"


def test_every_port_is_known(cluster, training):
    """A port that is neither named nor a worker's would be one that the other tests do not try."""
    assert set(cluster.ports) == set(HEAD_NAMES) == {*HTTP, *METHODS, *METRICS} - {"worker"}
    named = set(cluster.ports.values())
    others = [title for (_, port), title in listening(cluster).items() if port not in named]
    assert all(title.startswith(("ray::", "python -m jobs")) or " -m jobs " in title for title in others), others


def test_no_http_route_answers_without_the_token(cluster):
    found = routes()
    assert len(found) > 60
    for name in HTTP:
        port = cluster.ports[name]
        for method, path in found:
            expected = {None: 401, "0" * 64: 403, "": 403}
            for token, status in expected.items():
                got = answer(port, path, method, token)
                assert got == status or (path in PUBLIC and method == "get"), (name, method, path, token, got)
    assert answer(cluster.ports["dashboard-port"], "/api/v0/nodes", token=cluster.token_path.read_text()) == 200


def test_no_grpc_service_answers_without_the_token(cluster, training):
    (worker,) = [port for (_, port), title in listening(cluster).items() if "TrainController" in title]
    for name, methods in METHODS.items():
        for method in methods:
            for token in (None, "", "0" * 64):
                port = cluster.ports.get(name, worker)
                assert refusal(port, method, token) == grpc.StatusCode.UNAUTHENTICATED, (name, method, token)


def test_metrics_are_the_only_thing_that_is_told_to_all(cluster):
    for name, port in cluster.ports.items():
        if name in METRICS:
            assert answer(port, "/metrics") == 200, name
        elif name not in HTTP:
            assert answer(port, "/") is None, name


def test_the_way_to_ray_itself_is_closed(cluster, tmp_path):
    """A driver without the token, and with another one."""
    (tmp_path / "token").write_text("0" * 64)
    common = {name: value for name, value in cluster.env().items() if not name.startswith("RAY_AUTH")}
    for auth in ({"HOME": str(tmp_path)}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}):
        done = subprocess.run(
            [*RAY, "job", "list"], env=common | auth, capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode != 0
        assert "Authentication" in done.stderr


def test_sockets_and_logs_are_the_users_alone(cluster):
    assert cluster.temp_dir.stat().st_mode & 0o077 == 0


def test_no_secret_is_in_a_command_line_a_log_or_a_run(cluster, told_secrets, training, jobs):
    hidden = [*told_secrets.values(), cluster.token_path.read_text().strip()]
    for line in command_lines():
        assert not [secret for secret in hidden if secret in line], line.split()[0]
    read = 0
    for path, content in contents(cluster.temp_dir, jobs.folder, cluster.token_path.parent):
        if path != cluster.token_path:
            assert not [secret for secret in hidden if secret.encode() in content], path
            read += 1
    assert read > 20


def test_a_stop_loses_no_step_and_does_not_change_the_curve(cluster, training, jobs, spec):
    """Longer after the signal than Ray waits by itself."""
    run, undisturbed = jobs.run("training"), jobs.run("undisturbed")
    assert training.stop() == "stopped"
    last = curve(run)[-1]["step"]
    assert [path.parent.name for path in run.glob("checkpoints/*/COMPLETE")] == [f"step-{last:06d}"]
    assert "stopped with a checkpoint, start the job again to go on" in training.output
    wait_until_nothing_runs(cluster, jobs.folder)

    plan = {key: value for key, value in yaml.safe_load(spec.read_text()).items() if key in Stage1Plan.model_fields}
    ranks.train({run: plan, undisturbed: plan}, stop_after=last + 5)
    assert f"resumed at step {last}" in (run / "progress.log").read_text()
    assert curve(run) == curve(undisturbed)
