"""deploy/kubernetes: what no linter catches, then the linters. No cluster runs it here."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docker_kit import DEPLOY, ROOT, program, run
from kubernetes_kit import BUILT, FOLDER, OVERLAYS, Manifest, build, named, of_kind, pod, prepared, values_of

from session_mgmt_mcp.adapters.http.front import MCP_PATH, METRICS_PATH
from session_mgmt_mcp.core.config import TABLE, load

UID = 10001
# CKV_K8S_43, 15: images by digest, pulled always: the overlay names a version that is pushed once.
# CKV_K8S_8, 9: the probes are the service's; the container beside it that makes backups answers nothing.
LEFT_OUT = "CKV_K8S_43,CKV_K8S_15,CKV_K8S_8,CKV_K8S_9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(folder: Path, request: pytest.FixtureRequest) -> list[Manifest]:
    return build(folder, request.param)


def test_every_file_belongs_to_a_kustomization() -> None:
    named_there: set[Path] = set()
    for kustomization in FOLDER.rglob("kustomization.yaml"):
        text = kustomization.read_text()
        assert yaml.safe_load(text)["kind"] in ("Kustomization", "Component")
        for word in re.findall(r"[\w./-]+\.(?:yaml|env)\b", text):
            named_there.add((kustomization.parent / word).resolve())
    files = {p.resolve() for p in FOLDER.rglob("*") if p.suffix in (".yaml", ".env")}
    assert {p for p in files if p.name != "kustomization.yaml"} == named_there & files


def test_no_secret_is_in_the_repository() -> None:
    if (ROOT / ".git").exists():
        listed = run("git", "ls-files", "--", "deploy", cwd=ROOT).stdout.split()
        assert [name for name in listed if "/secrets/" in name] == []
    for path in FOLDER.rglob("*.yaml"):
        documents = yaml.safe_load_all(path.read_text())
        kinds = [found.get("kind") for found in documents if isinstance(found, dict)]
        assert "Secret" not in kinds, f"{path}: secrets are generated from files"


def test_without_its_key_an_overlay_is_not_built(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    for overlay in OVERLAYS:
        (folder / overlay / "secrets/admin-key").unlink()
        done = run(program("kubectl"), "kustomize", folder / overlay, check=False)
        assert done.returncode != 0
        assert "admin-key" in done.stderr


@pytest.mark.parametrize("key", ["<base64-encoded-api-key>", ""])
def test_a_placeholder_for_the_key_keeps_the_service_from_starting(tmp_path: Path, key: str) -> None:
    file = tmp_path / "admin-key"
    file.write_text(key)
    environment = {
        **os.environ,
        "SESSION_MGMT_DATA_DIR": str(tmp_path / "data"),
        "SESSION_MGMT_ADMIN_KEY_FILE": str(file),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "session_mgmt_mcp", "serve", "--http", "--host", "0.0.0.0", "--port", "0"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert str(file) in done.stderr


def test_a_volume_for_one_writer_has_one_pod(objects: list[Manifest]) -> None:
    (workload,) = of_kind(objects, "StatefulSet", "Deployment")
    claims = workload["spec"]["volumeClaimTemplates"]
    assert workload["kind"] == "StatefulSet"
    assert workload["spec"]["replicas"] == 1
    assert of_kind(objects, "HorizontalPodAutoscaler") == []
    for claim in claims:
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
        assert "storageClassName" not in claim["spec"], "a class that nobody made leaves the pod pending"


def test_every_name_that_is_referred_to_exists(objects: list[Manifest]) -> None:
    spec = pod(objects)["spec"]
    (workload,) = of_kind(objects, "StatefulSet")
    secrets, maps = named(objects, "Secret"), named(objects, "ConfigMap")
    services, accounts = named(objects, "Service"), named(objects, "ServiceAccount")
    for reference in values_of(objects, "configMapRef"):
        assert reference["name"] in maps
    for volume in values_of(objects, "secret"):
        assert volume["secretName"] in secrets
    for rules in of_kind(objects, "Ingress"):
        assert {tls["secretName"] for tls in rules["spec"]["tls"]} <= set(secrets)
        for backend in values_of(rules, "service"):
            ports = {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
            assert backend["port"]["name"] in ports
    for monitor in of_kind(objects, "ServiceMonitor"):
        for credentials in values_of(monitor, "credentials"):
            assert credentials["key"] in secrets[credentials["name"]]["data"]
    assert spec["serviceAccountName"] in accounts
    assert workload["spec"]["serviceName"] in services
    volumes = {v["name"] for v in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    for container in spec["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert {found["metadata"].get("namespace") for found in objects} - {None} == set(
        named(objects, "Namespace")
    )


def test_selectors_find_the_pod_and_nothing_else(objects: list[Manifest]) -> None:
    labels = pod(objects)["metadata"]["labels"]
    selectors = [s["spec"]["selector"] for s in of_kind(objects, "Service")]
    selectors += [
        s["spec"]["selector"]["matchLabels"] for s in of_kind(objects, "PodDisruptionBudget", "StatefulSet")
    ]
    selectors += [s["spec"]["podSelector"]["matchLabels"] for s in of_kind(objects, "NetworkPolicy")]
    assert len(selectors) >= 5
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [s for s in of_kind(objects, "Service") if wanted <= s["metadata"]["labels"].items()]
        ports = {port["name"] for service in found for port in service["spec"]["ports"]}
        assert {end["port"] for end in monitor["spec"]["endpoints"]} <= ports
        assert {end["path"] for end in monitor["spec"]["endpoints"]} == {METRICS_PATH}


def test_ports_and_probes_are_those_of_the_service(objects: list[Manifest]) -> None:
    service = pod(objects)["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in service["ports"]}
    defaults = load({}, None)
    assert ports == {"http": defaults.http_port, "metrics": defaults.metrics_port}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = service[name]["httpGet"]
        assert probe == {"path": "/ready" if name == "readinessProbe" else "/health", "port": "http"}
    for found in of_kind(objects, "Service"):
        for port in found["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for policy in of_kind(objects, "NetworkPolicy"):
        assert set(values_of(policy["spec"].get("ingress"), "port")) <= set(ports)
    for rules in of_kind(objects, "Ingress"):
        assert list(values_of(rules, "path")) == [MCP_PATH], "health and metrics are for the cluster"


def test_the_settings_are_ones_the_service_takes(objects: list[Manifest]) -> None:
    (config,) = of_kind(objects, "ConfigMap")
    known = {name for row in TABLE.values() for name in row.variables} | {"SESSION_MGMT_DATA_DIR"}
    assert set(config["data"]) <= known
    settings = load(config["data"], None)
    assert settings.auth == "keys"
    folder, file = os.path.split(settings.admin_key_file)
    spec = pod(objects)["spec"]
    service = spec["containers"][0]
    (mount,) = [m for m in service["volumeMounts"] if m["mountPath"] == folder]
    (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
    secret = named(objects, "Secret")[volume["secret"]["secretName"]]
    assert base64.b64decode(secret["data"][file]).startswith(b"smk_")
    data = config["data"]["SESSION_MGMT_DATA_DIR"]
    assert any(data.startswith(m["mountPath"] + "/") for m in service["volumeMounts"]), (
        "below a volume of its own"
    )
    for rules in of_kind(objects, "Ingress"):
        assert set(values_of(rules["spec"]["rules"], "host")) <= set(settings.allowed_hosts)
    assert settings.drain_s < spec["terminationGracePeriodSeconds"]
    memory = service["resources"]["limits"]["memory"]
    assert settings.max_memory_mb < int(memory.removesuffix("Gi")) * 1024


def test_the_pod_runs_as_the_images_user_with_nothing_it_does_not_need(objects: list[Manifest]) -> None:
    spec = pod(objects)["spec"]
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert f"USER {UID}:{UID}\n" in dockerfile
    context = spec["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (UID, UID, UID)
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "the Service's variables would be taken for settings"
    for container in spec["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        name, _, tag = container["image"].rpartition(":")
        assert name.split("/")[-1] == "session-mgmt-mcp"
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag), (
            f"{container['image']}: a version, so that a rollback finds it"
        )
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_restore_finds_the_volumes_the_image_and_the_folder_of_the_service(folder: Path) -> None:
    built = build(folder, "restore")
    (job,), (policy,) = of_kind(built, "Job"), of_kind(built, "NetworkPolicy")
    objects = build(folder, "overlays/production")
    (workload,) = of_kind(objects, "StatefulSet")
    spec, service = job["spec"]["template"]["spec"], pod(objects)["spec"]
    templates = workload["spec"]["volumeClaimTemplates"]
    claims = {f"{found['metadata']['name']}-{workload['metadata']['name']}-0" for found in templates}
    assert {found["claimName"] for found in values_of(spec, "persistentVolumeClaim")} == claims
    assert spec["securityContext"] == service["securityContext"]
    (container,) = spec["containers"]
    assert container["image"] == service["containers"][0]["image"]
    assert job["metadata"]["namespace"] == workload["metadata"]["namespace"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    beside = {
        mount["name"]: mount["mountPath"] for each in service["containers"] for mount in each["volumeMounts"]
    }
    assert mounted.items() <= beside.items()
    (config,) = of_kind(objects, "ConfigMap")
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert f"SESSION_MGMT_DATA_DIR={config['data']['SESSION_MGMT_DATA_DIR']} " in dockerfile
    assert (
        f"COPY deploy/scripts/restore.sh deploy/scripts/common.sh {os.path.dirname(container['command'][0])}/"
        in dockerfile
    )
    backup = next(each for each in service["containers"] if each["name"] == "backup")
    assert container["args"][1] in backup["args"][0]
    # Its pod is no pod of the service: the StatefulSet would take it for its own, and clients would be sent to it.
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert (
        not policy["spec"]["podSelector"]["matchLabels"].items() <= pod(objects)["metadata"]["labels"].items()
    )


@pytest.mark.parametrize("overlay", BUILT)
def test_the_api_s_schema_accepts_every_object(folder: Path, overlay: str, tmp_path: Path) -> None:
    built = tmp_path / "built.yaml"
    objects = [
        found for found in build(folder, overlay) if found["kind"] != "ServiceMonitor"
    ]  # not the API's own
    built.write_text(yaml.safe_dump_all(objects))
    done = run(program("kubernetes-validate"), "--strict", built)
    assert (done.stdout + done.stderr).count(" passed ") == len(objects)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", BUILT)
def test_the_security_rules_find_nothing(folder: Path, overlay: str, tmp_path: Path) -> None:
    built = tmp_path / "built.yaml"
    built.write_text(run(program("kubectl"), "kustomize", folder / overlay).stdout)
    done = run(
        program("checkov"), "--framework", "kubernetes", "--skip-download", "--compact", "--quiet",
        "--skip-check", LEFT_OUT, "--file", built, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    passed = re.search(r"Passed checks: (\d+)", done.stdout)
    assert passed and int(passed[1]) > 50  # it says nothing and is content where it finds no object
