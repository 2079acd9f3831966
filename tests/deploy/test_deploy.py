"""What is deployed is held against the schemas of what it is deployed to, and against the service that it runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from embedder.config import ServeSettings, load_settings
from embedder.telemetry.catalogue import CATALOGUE
from tests.deploy.kustomize import Manifest, render
from tests.programs import find_program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("base", "overlays/cpu", "overlays/gpu")
KUBERNETES_VERSION = "1.33"

_METRICS = {name for metric in CATALOGUE for name in metric.series} | {metric.name for metric in CATALOGUE}


def one(manifests: list[Manifest], kind: str, name: str = "embedder") -> Manifest:
    (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(KUBERNETES / request.param)


def test_every_resource_fits_the_schema_of_its_api(manifests: list[Manifest]) -> None:
    checked = [each for each in manifests if each["kind"] != "ScaledObject"]  # not of Kubernetes itself
    for manifest in checked:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
    assert len(checked) >= 7


def test_every_file_of_the_folder_is_used() -> None:
    for folder in OVERLAYS:
        kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
        files = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert files == {name for name in kustomization["resources"] if name.endswith(".yaml")}


def test_settings_are_those_of_the_service(manifests: list[Manifest]) -> None:
    given = one(manifests, "ConfigMap")["data"]
    container = one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    names = {
        name.removeprefix("EMBEDDER_").lower() for name in [*given, *(entry["name"] for entry in container["env"])]
    }
    assert names <= ServeSettings.model_fields.keys()
    settings = load_settings(**{name.removeprefix("EMBEDDER_").lower(): value for name, value in given.items()})
    spec = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    drain_s = (settings.drain_delay_ms + settings.drain_grace_ms) / 1_000
    assert spec["terminationGracePeriodSeconds"] >= drain_s + 10
    claimed = one(manifests, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"][
        "storage"
    ]
    assert settings.cache_limit_bytes < int(claimed.removesuffix("Gi")) << 30
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.data_dir) in mounts
    assert str(settings.domain_key_file.parent) in mounts
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.listen_address.endswith(f":{ports['grpc']}")
    assert settings.metrics_address.endswith(f":{ports['metrics']}")
    assert container["readinessProbe"]["grpc"]["port"] == ports["grpc"]


def test_replicas_are_found_kept_and_moved_one_at_a_time(manifests: list[Manifest]) -> None:
    stateful = one(manifests, "StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"].items()
    headless = one(manifests, "Service", stateful["serviceName"])["spec"]
    assert headless["clusterIP"] == "None"
    for selector in (
        stateful["selector"]["matchLabels"],
        headless["selector"],
        one(manifests, "Service")["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_containers_may_do_nothing_but_serve(manifests: list[Manifest]) -> None:
    spec = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    for container in spec["containers"]:
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert "memory" in container["resources"]["limits"]


def test_scaling_goes_by_metrics_that_are_exported() -> None:
    scaler = one(render(KUBERNETES / "overlays/cpu"), "HorizontalPodAutoscaler")["spec"]
    assert {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]} <= _METRICS
    scaled = one(render(KUBERNETES / "overlays/gpu"), "ScaledObject")["spec"]
    assert scaled["minReplicaCount"] < scaled["maxReplicaCount"]
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
    assert set(re.findall(r"embedder_\w+", trigger["metadata"]["query"])) <= _METRICS
    for target in (scaler["scaleTargetRef"], scaled["scaleTargetRef"]):
        assert target == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "embedder"}


def test_gpu_overlay_asks_for_a_gpu_and_serves_on_it() -> None:
    manifests = render(KUBERNETES / "overlays/gpu")
    container = one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert one(manifests, "ConfigMap")["data"]["EMBEDDER_DEVICE"] == "cuda:0"


def test_compose_file_fits_its_schema() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose/compose.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_settings_are_those_of_the_service() -> None:
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    given = services["embedder"]["environment"]
    settings = load_settings(**{name.removeprefix("EMBEDDER_").lower(): value for name, value in given.items()})
    hosts = re.findall(r"([\w-]+):6379", settings.shared_cache_url.get_secret_value())
    assert {*hosts} <= services.keys()
    assert len(hosts) == 3
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / "compose" / source).exists()


def test_containerfile_is_linted() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, DEPLOY / "container/Containerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_containerfile_builds_from_the_constraints_and_names_extras_and_folders_that_are() -> None:
    text = (DEPLOY / "container/Containerfile").read_text()
    installs = re.findall(r"pip install (.*)", text)
    assert installs
    assert all(line.startswith("--constraint constraints.txt") for line in installs)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for line in re.findall(r"extras=([\w,]+)", text) for extra in line.split(",")}
    assert named
    assert named <= extras.keys()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert all((ROOT / name).exists() for name in copied)


def unit_of(tmp_path: Path) -> Path:
    """Copy the unit, with a program that is there."""
    text = (DEPLOY / "systemd/embedder.service").read_text()
    program = str(Path(sys.executable).parent / "embedder-serve")
    unit = tmp_path / "embedder.service"
    unit.write_text(text.replace("/opt/embedder/bin/embedder-serve", program))
    return unit


def test_systemd_reads_the_unit_without_a_word(tmp_path: Path) -> None:
    analyze = find_program("systemd-analyze")
    done = subprocess.run(
        [analyze, "verify", "--man=no", unit_of(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_the_service_little_exposed(tmp_path: Path) -> None:
    analyze = find_program("systemd-analyze")
    command = [analyze, "security", "--offline=yes", "--threshold=25", "--no-pager", unit_of(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr


def test_unit_gives_the_service_time_to_drain() -> None:
    text = (DEPLOY / "systemd/embedder.service").read_text()
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    settings = load_settings()
    assert int(stop_s) >= (settings.drain_delay_ms + settings.drain_grace_ms) / 1_000 + 10


def test_every_folder_says_what_it_is_for() -> None:
    for folder in (path for path in DEPLOY.iterdir() if path.is_dir()):
        named: list[Any] = [*folder.glob("README.md"), *folder.glob("*.yml"), *folder.glob("*.yaml")]
        assert named, folder
