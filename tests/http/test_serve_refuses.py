"""What `serve --http` refuses to start with: the exit code, and a message that names the mend."""

import json
import socket
from pathlib import Path

import pytest

from session_mgmt_mcp.tools.access_keys import FILE as KEYS_FILE
from session_mgmt_mcp.tools.cli import main


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.touch()
    monkeypatch.setenv("SESSION_MGMT_CONFIG", str(config))
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SESSION_MGMT_METRICS_PORT", "0")
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and what was said."""
    code = main(["serve", "--http", *arguments])
    return code, capsys.readouterr().err


def test_no_keys_off_loopback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SESSION_MGMT_AUTH", "none")
    code, said = refused(capsys, "--host", "0.0.0.0", "--port", "0")
    assert code == 6
    assert "auth" in said


def test_keys_asked_for_and_none_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(capsys, "--host", "0.0.0.0", "--port", "0")
    assert code == 6
    assert "keys create" in said
    assert KEYS_FILE in said


def test_a_socket_of_systemd_off_loopback_asks_for_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its address counts, not the one the settings name."""
    from session_mgmt_mcp.tools import service

    listening = socket.create_server(("0.0.0.0", 0))
    monkeypatch.setattr(service, "inherited_sockets", lambda: {"http": listening})
    code, said = refused(capsys)
    assert code == 6
    assert "keys create" in said
    listening.close()


@pytest.mark.parametrize("what", ["http", "metrics"])
def test_a_port_that_is_taken(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("SESSION_MGMT_HTTP_PORT", port if what == "http" else "0")
        monkeypatch.setenv("SESSION_MGMT_METRICS_PORT", port if what == "metrics" else "0")
        code, said = refused(capsys)
    assert code == 1
    assert f"127.0.0.1:{port}" in said
    assert f"SESSION_MGMT_{what.upper()}_PORT" in said


def test_an_address_that_is_not_this_machines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = main(["keys", "create", "somebody", "--role", "admin", "--all-projects"])
    capsys.readouterr()
    code, said = refused(capsys, "--host", "192.0.2.1", "--port", "0")
    assert (made, code) == (0, 1)
    assert "192.0.2.1" in said


def test_a_host_that_can_have_no_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_MGMT_METRICS_PORT", "9090")
    monkeypatch.setenv("SESSION_MGMT_METRICS_HOST", "a..b")
    monkeypatch.setenv("SESSION_MGMT_METRICS_AUTH", "none")
    code, said = refused(capsys, "--port", "0")
    assert code == 1
    assert "a..b" in said and "metrics_host" in said


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_a_server_that_is_not_used_yet(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "scheme://user:secretpart@host/name")
    code, said = refused(capsys)
    assert code == 6
    assert variable in said
    assert "secretpart" not in said


def test_a_data_folder_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "file"))
    code, said = refused(capsys, "--port", "0")
    assert code == 3
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("wrong", ["missing", "foreign key", "no PEM", "half"])
def test_a_certificate_that_cannot_serve(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from certificates import make_certificate

    cert, key = make_certificate(tmp_path / "a")
    _, foreign = make_certificate(tmp_path / "b")
    if wrong == "no PEM":
        key.write_text("no key")
    chosen = {"missing": tmp_path / "nowhere.pem", "foreign key": foreign}.get(wrong, key)
    monkeypatch.setenv("SESSION_MGMT_TLS_CERT_FILE", str(cert))
    if wrong != "half":
        monkeypatch.setenv("SESSION_MGMT_TLS_KEY_FILE", str(chosen))
    code, said = refused(capsys, "--port", "0")
    assert code == 6
    assert "tls_key_file" in said


def test_a_proxy_that_is_no_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_MGMT_TRUSTED_PROXIES", "10.0.0.0/8, nginx")
    code, said = refused(capsys, "--port", "0")
    assert code == 6
    assert "nginx" in said


def test_host_and_port_without_http(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "8000"]) == 2
    assert "--http" in capsys.readouterr().err


def test_a_refusal_is_json_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--json", "--host", "127.0.0.1"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "input"
