"""The manifests without a Kubernetes: they render, use known fields, ask for what the jobs need, hold no secret."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.load import load_spec
from jobs.spec import SPECS
from tests.kustomize import render

ROOT = Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "cluster" / "kubernetes"
FIELDS: dict[str, dict[str, str | None]] = yaml.safe_load((Path(__file__).parent / "fields.yaml").read_text())
OVERLAYS = sorted(
    path.parent for path in KUBERNETES.glob("overlays/*/*/kustomization.yaml") if path.parent.name != "hardware"
)
KINDS = {"cluster": "RayCluster", "job": "RayJob", "service": "RayService"}
SPEC_OF = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
SECRETS = {"e2llm-ray-token", "e2llm-cloud", "e2llm-serve-token"}
overlays = pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: f"{path.parent.name}-{path.name}")


@cache
def objects(folder: Path) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in render(folder)}


def ray_object(folder: Path) -> dict[str, Any]:
    return objects(folder)[KINDS[folder.name]]


def cluster_of(folder: Path) -> dict[str, Any]:
    """The cluster's spec, wherever the kind has it."""
    spec = ray_object(folder)["spec"]
    for part in SPEC_OF[KINDS[folder.name]]:
        spec = spec[part]
    return spec


def pods(folder: Path) -> list[dict[str, Any]]:
    """Specs of the pods that run Ray: the head's first."""
    spec = cluster_of(folder)
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, str(key)))
    else:
        yield path, node


def unknown_fields(node: Any, kind: str, path: str = "") -> list[str]:
    if isinstance(node, list):
        return [wrong for item in node for wrong in unknown_fields(item, kind, path)]
    wrong = []
    for key, value in node.items():
        if key not in FIELDS[kind]:
            wrong.append(f"{path}.{key} is no field of {kind}")
        elif (below := FIELDS[kind][key]) not in (None, "*"):
            wrong += unknown_fields(value, str(below), f"{path}.{key}")
    return wrong


def gibibytes(quantity: str) -> float:
    return float(quantity.removesuffix("Gi")) if quantity.endswith("Gi") else float(quantity.removesuffix("Mi")) / 1024


def test_there_is_an_overlay_for_each_kind_and_hardware():
    assert {(path.parent.name, path.name) for path in OVERLAYS} == {
        (on, kind) for on in ("cpu", "gpu") for kind in KINDS
    }


@overlays
def test_it_renders_to_one_ray_object_and_what_it_needs(folder):
    assert set(objects(folder)) == {KINDS[folder.name], "ConfigMap", "PersistentVolumeClaim"}


def services(kind: str, name: str) -> set[str]:
    """Services that KubeRay names after an object; a RayJob's are named after a cluster with a random name."""
    ends = {"RayCluster": ["head"], "RayJob": [], "RayService": ["head", "serve"]}
    return {f"{name}-{end}-svc" for end in ends[kind]}


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_all_three_kinds_can_be_there_at_once(hardware):
    found = [ray_object(KUBERNETES / "overlays" / hardware / folder) for folder in KINDS]
    names = [one["metadata"]["name"] for one in found]
    assert len(set(names)) == len(names)
    made = [service for one in found for service in services(one["kind"], one["metadata"]["name"])]
    assert len(set(made)) == len(made)


@overlays
def test_kubectl_renders_the_same(folder):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: rendered by tests/kustomize.py alone")
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"KUBECONFIG": "/dev/null"})
    assert {one["kind"]: one for one in yaml.safe_load_all(done.stdout)} == objects(folder)


@overlays
def test_every_field_is_in_the_api_reference(folder):
    assert not [wrong for one in objects(folder).values() for wrong in unknown_fields(one, one["kind"], one["kind"])]


def test_a_misspelled_field_is_noticed():
    wrong = unknown_fields(
        {"spec": {"entryPoint": "x", "rayClusterSpec": {"workerGroupSpecs": [{"replica": 1}]}}}, "RayJob"
    )
    assert wrong == [
        ".spec.entryPoint is no field of RayJobSpec",
        ".spec.rayClusterSpec.workerGroupSpecs.replica is no field of WorkerGroupSpec",
    ]


@overlays
def test_the_token_comes_from_a_secret_and_services_stay_inside(folder):
    spec = cluster_of(folder)
    assert spec["authOptions"] == {"mode": "token", "secretName": "e2llm-ray-token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["enableIngress"] is False
    assert spec["rayVersion"] == metadata.version("ray")


@overlays
def test_no_secret_is_written_down(folder):
    assert "Secret" not in objects(folder)
    for path, value in leaves(list(objects(folder).values())):
        if (
            re.search(r"token|secret|passw|credential|access_?key", path[-1], re.IGNORECASE)
            and path[-1] != "automountServiceAccountToken"
        ):
            assert value in SECRETS, path
        assert not re.search(r"\b(AKIA|hf_|ghp_)\w{8,}|://[^/\s]*:[^/\s]*@", str(value)), path
    for pod in pods(folder):
        for container in pod["containers"]:
            named = [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
            assert named == ["e2llm-cloud"]
            assert all(set(variable) == {"name", "valueFrom"} for variable in container.get("env", []))


@overlays
def test_pods_run_as_nobody_special(folder):
    templates = [
        *pods(folder),
        *([objects(folder)["RayJob"]["spec"]["submitterPodTemplate"]["spec"]] if folder.name == "job" else []),
    ]
    for pod in templates:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]) == set(resources["limits"])
            if container["name"].startswith("ray-head") or container["name"].startswith("ray-worker"):
                assert resources["requests"] == resources["limits"]


@overlays
def test_pods_share_a_volume_and_have_room_for_rays_object_store(folder):
    claims = objects(folder)["PersistentVolumeClaim"]
    assert claims["spec"]["accessModes"] == ["ReadWriteMany"]
    root = objects(folder)["ConfigMap"]["data"]["E2LLM_ROOT"]
    for pod in pods(folder):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts[root]["persistentVolumeClaim"]["claimName"] == claims["metadata"]["name"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert (
            gibibytes(mounts["/dev/shm"]["emptyDir"]["sizeLimit"])
            < gibibytes(container["resources"]["limits"]["memory"]) / 2
        )
        assert {"configMapRef": {"name": objects(folder)["ConfigMap"]["metadata"]["name"]}} in container["envFrom"]


@overlays
def test_readiness_asks_what_ray_has(folder):
    """The addresses, which need no token, are Ray's own."""
    ray = Path(str(metadata.distribution("ray").locate_file("ray/dashboard")))
    for role, pod in zip(("head", "worker"), pods(folder), strict=True):
        (container,) = pod["containers"]
        shell, flag, line = container["readinessProbe"]["exec"]["command"]
        assert (shell, flag) == ("bash", "-c")
        assert "ray-" + role == container["name"]
        asked = set(re.findall(r"http://localhost:\d+(\S+)", line))
        expected = {"/api/local_raylet_healthz"}
        expected |= {"/api/gcs_healthz"} if role == "head" else {"/-/healthz"} if folder.name == "service" else set()
        assert asked == expected
        source = (ray / "http_server_head.py").read_text() + (ray / "http_server_agent.py").read_text()
        assert all(f'"{path}"' in source for path in asked)


@overlays
def test_the_work_gets_time_for_a_checkpoint(folder):
    for role, pod in zip(("head", "worker"), pods(folder), strict=True):
        hook = pod["containers"][0].get("lifecycle")
        if folder.name == "service":
            assert hook is None
            continue
        python, module_flag, module, *arguments = hook["preStop"]["exec"]["command"]
        assert (python, module_flag, arguments[0]) == ("python", "-m", role)
        assert callable(import_module(module).main)
        assert float(arguments[-1]) < pod["terminationGracePeriodSeconds"]
        assert arguments[-1] == objects(folder)["ConfigMap"]["data"]["RAY_JOB_STOP_WAIT_TIME_S"]


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_the_job_is_one_of_ours_and_fits_its_cluster(hardware):
    folder = KUBERNETES / "overlays" / hardware / "job"
    job = objects(folder)["RayJob"]["spec"]
    path, *overrides = shlex.split(job["entrypoint"])
    assert path.startswith("jobs/")
    spec: Any = load_spec(ROOT / path, overrides, SPECS).spec
    (group,) = cluster_of(folder)["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    for name, each in (("cpu", spec.resources.cpus_per_worker), ("nvidia.com/gpu", spec.resources.gpus_per_worker)):
        if each:
            assert group["replicas"] * (float(limits.get(name, 0)) // each) >= spec.resources.workers, name


def test_a_job_ends_with_its_cluster_and_is_tried_again_a_few_times():
    job = objects(KUBERNETES / "overlays" / "gpu" / "job")["RayJob"]["spec"]
    assert job["shutdownAfterJobFinishes"] is True
    assert 0 < job["ttlSecondsAfterFinished"] <= 3600
    assert 0 < job["backoffLimit"] <= 5
    assert job["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_the_service_names_a_builder_of_ours_and_fits_its_cluster(hardware):
    from ray.serve.schema import ServeDeploySchema

    folder = KUBERNETES / "overlays" / hardware / "service"
    config = ServeDeploySchema.model_validate(yaml.safe_load(objects(folder)["RayService"]["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, _, builder = application.import_path.partition(":")
    build = getattr(import_module(module), builder)
    arguments = build.__annotations__["arguments"].model_validate(application.args)
    (group,) = cluster_of(folder)["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert arguments.cpus_per_replica <= float(limits["cpu"])
    assert arguments.gpus_per_replica == (1 if hardware == "gpu" else 0) == float(limits.get("nvidia.com/gpu", 0))
    assert {"name": "serve", "containerPort": config.http_options.port} in container["ports"]
    (variable,) = container["env"]
    assert variable["name"] == import_module(module).TOKEN_VARIABLE
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "e2llm-serve-token", "key": "token"}


def test_the_page_names_what_there_is():
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    paths = set(re.findall(r"(?<![\w./])(?:cluster/kubernetes|jobs|tests)/[\w./-]*\w", page))
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]
    assert set(re.findall(r"create secret generic (\S+)", page)) == SECRETS
    there = {("job", "e2llm-job")}
    for folder in OVERLAYS:
        kind, name = ray_object(folder)["kind"], ray_object(folder)["metadata"]["name"]
        there |= {(kind.lower(), name), *(("service", service) for service in services(kind, name))}
    named = set(re.findall(r"\b(service|raycluster|rayjob|rayservice|job)[/ ](e2llm[\w-]*)", page))
    assert {kind for kind, _ in named} == {kind for kind, _ in there}
    assert named <= there


def test_tokens_are_made_without_a_newline():
    """KubeRay puts them as they are into a header."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    made = re.findall(r"openssl rand -hex 32(.*?)> (\S+)\.token\b", page)
    assert made == [(" | tr -d '\\n' ", "ray"), (" | tr -d '\\n' ", "serve")]
