"""deploy/kubernetes as kustomize builds it, with secrets made for the test."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docker_kit import DEPLOY, program, run

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ("overlays/dev", "overlays/production")
BUILT = (*OVERLAYS, "restore")
SECRETS = {
    "overlays/dev/secrets/admin-key": "smk_" + "a" * 12 + "_" + "b" * 64,
    "overlays/production/secrets/admin-key": "smk_" + "c" * 12 + "_" + "d" * 64,
    "overlays/production/secrets/tls.crt": "a certificate",
    "overlays/production/secrets/tls.key": "its key",
    "components/monitoring/secrets/metrics-key": "smk_" + "e" * 12 + "_" + "f" * 64,
}
_MONITORING = "  # - ../../components/monitoring\n"
Manifest = dict[str, Any]


def prepared(folder: Path) -> Path:
    """A copy with the secrets in their places and the monitoring component switched on."""
    to = folder / "kubernetes"
    shutil.copytree(FOLDER, to, ignore=shutil.ignore_patterns("secrets"))
    for name, text in SECRETS.items():
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_text(text)
    overlay = to / "overlays/production/kustomization.yaml"
    text = overlay.read_text()
    assert _MONITORING in text
    overlay.write_text(text.replace(_MONITORING, _MONITORING.replace("# ", "")))
    return to


def build(folder: Path, kustomization: str) -> list[Manifest]:
    """Every object of a kustomization."""
    built = run(program("kubectl"), "kustomize", folder / kustomization).stdout
    return [found for found in yaml.safe_load_all(built) if found]


def of_kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    return [found for found in objects if found["kind"] in kinds]


def named(objects: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {found["metadata"]["name"]: found for found in of_kind(objects, kind)}


def pod(objects: list[Manifest]) -> Manifest:
    """The template of the one workload."""
    (workload,) = of_kind(objects, "StatefulSet")
    template: Manifest = workload["spec"]["template"]
    return template


def values_of(node: Any, key: str) -> Iterator[Any]:
    """Whatever stands under `key`, anywhere in an object."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from values_of(value, key)
