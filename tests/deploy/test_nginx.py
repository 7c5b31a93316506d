"""deploy/nginx and the settings of compose's nginx: right to nginx itself, and in agreement with the service's own."""

import re
import subprocess
from pathlib import Path

import pytest
from docker_kit import DEPLOY, program, run
from nginx_kit import NAME, free_port, settings_of_host

from session_mgmt_mcp.core.config import ServiceSettings

FOLDER = DEPLOY / "nginx"
COMPOSE = DEPLOY / "compose" / "nginx.conf"
LOCATIONS = (FOLDER / "locations.conf").read_text()
EXPLAINED = (
    "missing_worker_processes",  # the host's own nginx.conf says it
    "proxy_buffering_off",  # on /mcp alone: answers are streams. Requests are buffered, connections limited
)


def host_settings(folder: Path) -> Path:
    return settings_of_host(folder, free_port(), free_port(), 8000)


def compose_settings(folder: Path) -> Path:
    """compose's file with the paths of its container turned into `folder`."""
    run("sh", FOLDER / "self-signed.sh", folder, NAME)
    text = COMPOSE.read_text()
    for old, new in (
        ("/tmp/", f"{folder}/"),
        ("/etc/nginx/session-mgmt-mcp", str(FOLDER)),
        ("/run/secrets/tls_cert", f"{folder}/tls.crt"),
        ("/run/secrets/tls_key", f"{folder}/tls.key"),
    ):
        assert old in text
        text = text.replace(old, new)
    main = folder / "nginx.conf"
    main.write_text(text)
    return main


@pytest.mark.parametrize("settings", [host_settings, compose_settings], ids=["host", "compose"])
def test_nginx_takes_the_settings_without_a_warning(settings: object, tmp_path: Path) -> None:
    main = settings(tmp_path)  # type: ignore[operator]
    done = run(program("nginx"), "-t", "-c", main, "-e", "stderr")
    said = [
        line
        for line in done.stderr.splitlines()
        if "syntax is ok" not in line and "is successful" not in line
    ]
    assert said == []


def test_nginx_would_see_an_upstream_that_is_not_defined(tmp_path: Path) -> None:
    main = host_settings(tmp_path)
    site = tmp_path / "site.conf"
    site.write_text(site.read_text().replace("set $session_mgmt session_mgmt_service;", ""))
    assert run(program("nginx"), "-t", "-c", main, "-e", "stderr", check=False).returncode != 0


@pytest.mark.parametrize("settings", [host_settings, compose_settings], ids=["host", "compose"])
def test_gixy_finds_nothing_that_is_not_explained(settings: object, tmp_path: Path) -> None:
    main = settings(tmp_path)  # type: ignore[operator]
    main.write_text(main.read_text().replace("server_tokens on;", ""))  # the host's own nginx.conf says it
    done = run(program("gixy"), "--format", "json", "--skips", ",".join(EXPLAINED), main, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stdout + done.stderr


def test_every_cipher_exists_and_keeps_past_traffic_secret() -> None:
    named = re.search(r"^ssl_ciphers (\S+);", (FOLDER / "tls.conf").read_text(), re.MULTILINE)
    assert named
    known = run("openssl", "ciphers", "-v", "ALL").stdout
    for cipher in named[1].split(":"):
        line = next((line for line in known.splitlines() if line.split()[0] == cipher), "")
        assert "TLSv1.2" in line and "Kx=ECDH " in line and "Mac=AEAD" in line, cipher


def test_only_the_protocol_and_the_life_sign_are_passed_on() -> None:
    passed = re.findall(r"^location (?:= )?(\S+) \{[^}]*proxy_pass", LOCATIONS, re.MULTILINE)
    assert sorted(passed) == ["/health", "/mcp"]


def test_no_location_drops_the_security_headers_of_its_server() -> None:
    within = re.findall(r"^location [^{]*\{[^}]*\}", LOCATIONS, re.MULTILINE)
    assert within
    assert not [block for block in within if "add_header" in block or "proxy_set_header" in block]


def test_nginx_and_the_service_agree_on_ports_and_sizes() -> None:
    settings = ServiceSettings()
    assert f"server 127.0.0.1:{settings.http_port};" in (FOLDER / "session-mgmt-mcp.conf").read_text()
    assert f"set $session_mgmt app:{settings.http_port};" in COMPOSE.read_text()
    assert f"client_max_body_size {settings.max_body_bytes >> 20}m;" in LOCATIONS


def test_a_certificate_for_trying_is_made_once_and_never_over_one(tmp_path: Path) -> None:
    script = FOLDER / "self-signed.sh"
    run("sh", script, tmp_path, NAME)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == {"tls.crt", "tls.key"}
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600
    shown = run("openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", tmp_path / "tls.crt").stdout
    assert f"DNS:{NAME}" in shown and "DNS:localhost" in shown
    (tmp_path / "tls.crt").unlink()
    run("sh", script, tmp_path, NAME)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"tls.key": made["tls.key"]}


@pytest.mark.parametrize("arguments", [[], ["folder", "a b"], ["folder", "x;y"], ["folder", "x", "y"]])
def test_a_wrong_name_for_a_certificate_is_refused(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", FOLDER / "self-signed.sh", *arguments], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_shell_scripts_are_clean_to_shellcheck() -> None:
    run(
        program("shellcheck"),
        FOLDER / "self-signed.sh",
        DEPLOY / "compose" / "secrets.sh",
        DEPLOY / "docker" / "health",
    )
