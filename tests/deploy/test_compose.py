"""deploy/compose without an engine: what no linter of compose files looks at, and the script that makes the secrets."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from docker_kit import BASE, DEPLOY, ROOT, program, run

from session_mgmt_mcp.core.config import OTHER_VARIABLES, TABLE, ServiceSettings

yaml = pytest.importorskip("yaml")

FOLDER = DEPLOY / "compose"
SETTINGS = {name for row in TABLE.values() for name in row.variables} | OTHER_VARIABLES
SERVICES = ("app", "proxy", "prometheus")


def stack() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = stack()["services"][name]
    return found


def test_the_stack_holds_the_services_the_tests_know() -> None:
    assert set(stack()["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_locked_down_bounded_and_watched(name: str) -> None:
    of = service(name)
    assert of["read_only"] is True
    assert of["cap_drop"] == ["ALL"] and "cap_add" not in of and "privileged" not in of
    assert of["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} == set(of["deploy"]["resources"]["limits"])
    assert of["logging"]["options"].keys() == {"max-size", "max-file"}
    assert of["restart"] == "unless-stopped"
    assert "healthcheck" in of or name == "app"  # that of the image
    assert "container_name" not in of  # it would keep a second stack from this machine


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    tag = re.fullmatch(r"(?:\$\{\w+:-)?[\w./-]+:(?:\$\{\w+:-)?(v?[\w.]+)\}?", service(name)["image"])
    assert tag and tag[1] != "latest"


def test_the_service_has_the_user_and_the_version_of_its_image_and_one_replica() -> None:
    assert "user" not in service("app")  # its data belong to the image's user
    assert "replicas" not in service("app")["deploy"] and "scale" not in service("app")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert service("app")["image"] == f"session-mgmt-mcp:${{SESSION_MGMT_VERSION:-{version}}}"
    build = service("app")["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert BASE  # taken from the Dockerfile's own default
    assert set(build["args"]) == {"VERSION"}


def test_nothing_is_published_but_the_proxy_and_on_loopback_prometheus() -> None:
    assert "ports" not in service("app") and service("app")["networks"].keys() == {"backend"}
    assert stack()["networks"]["backend"] == {"internal": True}
    assert all(port.startswith("127.0.0.1:") for port in service("prometheus")["ports"])
    inside = {int(port.rsplit(":", 1)[1]) for port in service("proxy")["ports"]}
    listens = set(map(int, re.findall(r"listen (\d+)", (FOLDER / "nginx.conf").read_text())))
    assert inside == listens and min(listens) > 1023  # no rights are needed for these


def test_secrets_are_files_that_are_asked_for_by_name() -> None:
    asked = set()
    for name in SERVICES:
        for secret in service(name).get("secrets", ()):
            asked.add(secret["source"] if isinstance(secret, dict) else secret)
        for variable, value in service(name).get("environment", {}).items():
            secretive = re.search("KEY|SECRET|TOKEN|PASSWORD", variable)
            assert not secretive or (variable.endswith("_FILE") and value.startswith("/run/secrets/")), (
                variable
            )
    assert asked == set(stack()["secrets"])
    assert all(
        set(where) == {"file"} and where["file"].startswith("./secrets/")
        for where in stack()["secrets"].values()
    )
    ignored = (FOLDER / ".gitignore").read_text().split()
    assert {"secrets/", ".env"} <= set(ignored)


def test_every_file_that_is_mounted_exists_and_none_would_be_made_as_a_folder() -> None:
    for name in SERVICES:
        for volume in service(name).get("volumes", ()):
            if isinstance(volume, str):
                assert volume.split(":")[0] in stack()["volumes"]
            else:
                assert (FOLDER / volume["source"]).exists() and volume["read_only"] is True
                assert volume["bind"] == {"create_host_path": False}


def test_the_service_is_told_only_what_it_reads_and_is_given_the_time_it_asks_for() -> None:
    assert set(service("app")["environment"]) <= SETTINGS
    settings = ServiceSettings()
    for name in ("app", "proxy"):
        assert int(service(name)["stop_grace_period"].removesuffix("s")) > settings.drain_s
    own = int(re.sub(r"\D", "", service("app")["environment"]["MAX_MEMORY_MB"]))
    assert int(service("app")["deploy"]["resources"]["limits"]["memory"].removesuffix("m")) > own


def test_prometheus_finds_the_service_under_the_name_its_settings_have() -> None:
    settings = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    job = next(job for job in settings["scrape_configs"] if job["job_name"] == "session-mgmt-mcp")
    name, port = job["static_configs"][0]["targets"][0].split(":")
    assert name in service("app")["networks"]["backend"]["aliases"]
    assert int(port) == ServiceSettings().metrics_port
    mounted = {volume["target"] for volume in service("prometheus")["volumes"] if isinstance(volume, dict)}
    mounted |= {secret["target"] for secret in service("prometheus")["secrets"]}
    needed = [*settings["rule_files"], job["authorization"]["credentials_file"]]
    assert {f"/etc/prometheus/{path}" for path in needed} <= mounted


def test_data_and_backups_are_volumes_where_the_image_has_folders_of_its_user() -> None:
    mounted = {volume.split(":")[1] for volume in service("app")["volumes"]}
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    (made,) = re.findall(r"install -d -m 0700 -o 10001 -g 10001 (.+?) \\", dockerfile)
    assert mounted == set(made.split())


def test_dclint_finds_nothing() -> None:
    run(program("dclint"), "-c", FOLDER / ".dclintrc.yaml", FOLDER)


def test_compose_understands_it() -> None:
    run(program("docker-compose"), "--project-directory", FOLDER, "--profile", "metrics", "config", "--quiet")


# -- the secrets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """deploy/compose in a place of its own, with what it refers to."""
    for name in ("compose", "nginx", "monitoring"):
        shutil.copytree(DEPLOY / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets", ".env"))
    return tmp_path / "compose"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_secrets_are_made_once_and_never_written_over(copy: Path) -> None:
    run("sh", copy / "secrets.sh", "history.example.com")
    made = files(copy / "secrets")
    assert set(made) == {"admin_key", "tls.crt", "tls.key"}
    assert re.fullmatch(rb"smk_[0-9a-f]{12}_[0-9a-f]{64}", made["admin_key"])
    assert "there already" in run("sh", copy / "secrets.sh", "other.example.com").stdout
    assert files(copy / "secrets") == made


def test_the_name_clients_use_is_kept_where_compose_reads_it(copy: Path) -> None:
    run("sh", copy / "secrets.sh", "history.example.com")
    run("sh", copy / "secrets.sh", "other.example.com")
    assert (copy / ".env").read_text().splitlines() == ["SESSION_MGMT_PUBLIC_NAME=history.example.com"]
    seen = run(program("docker-compose"), "--project-directory", copy, "config").stdout
    assert "SESSION_MGMT_ALLOWED_HOSTS: localhost,127.0.0.1,history.example.com" in seen


def test_secrets_are_for_their_owner_on_this_machine_and_for_the_containers_user(copy: Path) -> None:
    run("sh", copy / "secrets.sh")
    assert (copy / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (copy / "secrets").iterdir()} == {0o444}


def test_what_containers_read_is_readable_whatever_umask_the_clone_was_made_with(copy: Path) -> None:
    run("chmod", "-R", "go=", copy, copy.parent / "nginx", copy.parent / "monitoring")
    (copy.parent / "nginx" / "tls.key").touch(0o600)
    run("sh", copy / "secrets.sh")
    for name in SERVICES:
        for volume in service(name).get("volumes", ()):
            if isinstance(volume, dict):
                source = (copy / volume["source"]).resolve()
                assert source.stat().st_mode & 0o044 == 0o044, source
                assert all(path.stat().st_mode & 0o044 == 0o044 for path in source.glob("*.conf"))
    assert (copy.parent / "nginx" / "tls.key").stat().st_mode & 0o077 == 0


def test_two_stacks_have_different_keys(copy: Path) -> None:
    keys = set()
    for _ in range(2):
        run("sh", copy / "secrets.sh")
        keys.add((copy / "secrets" / "admin_key").read_bytes())
        shutil.rmtree(copy / "secrets")
    assert len(keys) == 2


def test_without_openssl_no_half_a_key_is_left(copy: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "mkdir", "chmod", "cat", "mv", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or "")
    done = run("sh", copy / "secrets.sh", check=False, env={"PATH": str(programs)})
    assert done.returncode != 0 and "openssl" in done.stderr
    assert list((copy / "secrets").iterdir()) == []


def test_a_key_that_could_not_be_made_leaves_no_file(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    shutil.copy(tmp_path / "docker", tmp_path / "docker-compose")
    done = subprocess.run(
        ["sh", copy / "secrets.sh", "--metrics"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert list((copy / "secrets").iterdir()) == []
