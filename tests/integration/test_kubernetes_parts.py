"""What runs inside the pods of cluster/kubernetes, on a real Ray with a token: the head's hook and the service."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.processes import command_lines, listening

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
JOB = """
import pathlib, signal, sys, time
import ray
folder = pathlib.Path(__file__).parent
def stop(*_):
    time.sleep(1)
    folder.joinpath("saved").write_text("checkpoint")
    sys.exit(75)
ray.init(logging_level="error")
signal.signal(signal.SIGTERM, stop)  # ray.init sets one of its own
folder.joinpath("ready").touch()
time.sleep(120)
"""


@pytest.fixture(scope="module")
def cluster(one_cluster):
    return one_cluster


@pytest.fixture(scope="module")
def token(told_secrets):
    """Of the service, which the nodes have from their Secret."""
    return told_secrets["E2LLM_SERVE_TOKEN"]


def wait_for(what, seconds=240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.3)
    raise AssertionError("waited in vain")


def call(url, token=None):
    request = urllib.request.Request(url, headers={} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, None


def test_the_hook_of_the_head_gives_a_job_time_and_ray_sees_that_it_failed(cluster, tmp_path):
    """Failed, not stopped: that is what KubeRay tries again."""
    env = cluster.env()
    (tmp_path / "job.py").write_text(JOB)
    submit = [str(BIN / "ray"), "job", "submit", "--no-wait", "--submission-id", "held", "--"]
    subprocess.run([*submit, "python", str(tmp_path / "job.py")], env=env, check=True, capture_output=True)
    wait_for((tmp_path / "ready").exists)
    hook = [
        sys.executable,
        "-m",
        "cluster.kubernetes.pod_stop",
        "head",
        "--grace-seconds",
        "110",
        "--dashboard",
        cluster.dashboard_url,
    ]
    begin = time.monotonic()
    subprocess.run(hook, env=env | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True)
    assert time.monotonic() - begin < 100
    assert (tmp_path / "saved").read_text() == "checkpoint"
    status = [str(BIN / "ray"), "job", "status", "held"]
    wait_for(lambda: "FAILED" in subprocess.run(status, env=env, capture_output=True, text=True).stdout.upper())


def test_health_is_told_without_the_token_and_nothing_else(cluster):
    with urllib.request.urlopen(f"{cluster.dashboard_url}/api/gcs_healthz", timeout=30) as response:
        assert b"success" in response.read()
    with urllib.request.urlopen(f"{agent_url(cluster)}/api/local_raylet_healthz", timeout=30) as response:
        assert b"success" in response.read()
    assert call(f"{cluster.dashboard_url}/api/jobs/")[0] == 401


def grpc_status(port, token=None):
    """How a replica's own server answers an empty call."""
    import grpc

    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as answer:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=20, metadata=metadata)
        return answer.value.code()


def agent_url(cluster):
    """Where the node's agent listens, which readiness asks on its usual port."""
    return f"http://127.0.0.1:{cluster.ports['dashboard-agent-listen-port']}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch

    from e2llm_core.encoders.eegpt.contract import PRETRAINED_CHANNELS
    from e2llm_core.llm.families.qwen import QWEN
    from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
    from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
    from e2llm_core.model.processing_e2llm import E2LLMProcessor
    from e2llm_core.tower.tower import EEGSettings, EEGTower

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["Which emotion does this segment show? happy or sad."] * 5, vocab_size=360)
    tower = EEGTower.build(
        EEGSettings(channels=PRETRAINED_CHANNELS[:4], window_seconds=1.0),
        encoder={"name": "eegpt", "dim": 16, "depth": 1, "num_heads": 2},
        temporal={"dim": 24, "depth": 1, "num_heads": 2, "max_patches": 16},
    )
    llm = tiny_llm(384, hidden_size=32, layers=2, intermediate=64, tokenizer=tokenizer)
    processor = E2LLMProcessor(tokenizer, tower.num_tokens, tower.eeg, QWEN)
    E2LLMForConditionalGeneration.assemble(tower, llm, processor.eeg_ids, ["sad", "happy"], None).save_pretrained(
        folder
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def serving(cluster, tmp_path):
    """Deploy a configuration until the test's end."""
    address = ["--address", cluster.dashboard_url]

    def deploy(config):
        (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
        command = [str(BIN / "serve"), "deploy", str(tmp_path / "serve.yaml"), *address]
        subprocess.run(command, env=cluster.env(), check=True, capture_output=True)

    yield deploy
    subprocess.run([str(BIN / "serve"), "shutdown", "-y", *address], env=cluster.env(), check=True, capture_output=True)


def test_a_model_is_served_on_the_loopback_address_to_those_who_have_the_token(cluster, token, model, serving):
    import grpc

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = ROOT / "cluster" / "kubernetes" / "base" / "service" / "rayservice.yaml"
    config = yaml.safe_load(yaml.safe_load(folder.read_text())["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"] |= {"model": str(model), "cpus_per_replica": 1}
    serving(config)
    url = f"http://127.0.0.1:{port}"
    try:
        described = wait_for(lambda: (got := call(f"{url}/v1/model", token))[0] == 200 and got[1])
    except AssertionError:
        status = [str(BIN / "serve"), "status", "--address", cluster.dashboard_url]
        pytest.fail(subprocess.run(status, env=cluster.env(), capture_output=True, text=True).stdout)
    assert described["labels"] == ["sad", "happy"]
    assert call(f"{url}/v1/model")[0] == call(f"{url}/v1/model", "wrong")[0] == 401
    windows = [[[0.0] * described["n_times"]] * len(described["channels"])]
    body = json.dumps({"windows": windows}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/emotion", body, headers), timeout=120) as response:
        (answer,) = json.loads(response.read())["answers"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    found = listening(cluster)
    assert port in {number for _, number in found}
    assert {ip for ip, _ in found} == {"127.0.0.1"}
    replica = {number for (_, number), title in found.items() if "ServeReplica" in title}
    answers = {number: grpc_status(number) for number in replica}  # Ray's own port does not know the method
    assert sorted(answers.values(), key=str) == [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED]
    (serves,) = [number for number, status in answers.items() if status == grpc.StatusCode.UNAUTHENTICATED]
    ours = grpc_status(serves, cluster.token_path.read_text())
    assert ours not in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
    assert not [line for line in command_lines() if token in line]
