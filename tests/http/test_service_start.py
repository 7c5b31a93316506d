"""What systemd is told of a service that is not up yet."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from session_mgmt_mcp.tools.service import Given, Service


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Opened, not run; what it tells systemd is in `told`."""
    config = tmp_path / "config.toml"
    config.touch()
    monkeypatch.setenv("SESSION_MGMT_CONFIG", str(config))
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "data"))
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    opened = Service.open(Given(http_port=0, metrics_port=0))
    yield opened
    opened._http.close()
    opened._app.close()
    opened._logs.close()


def test_over_a_unix_socket_keys_are_asked_for_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_MGMT_AUTH", "none")
    with socket.socket(socket.AF_UNIX) as path, socket.create_server(("127.0.0.1", 0)) as port:
        assert Given().with_sockets({"http": path}).settings().auth == "keys"
        assert Given().with_sockets({"http": port, "metrics": path}).settings().auth == "none"


@pytest.fixture
def told(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(service._notifier, "_send", said.append)
    return said


def test_a_reload_before_it_is_up_does_not_say_that_it_is(service: Service, told: list[str]) -> None:
    service.reload()
    assert told == []
    service._serving = True
    service.reload()
    assert [line.split("=")[0] for line in told] == ["RELOADING", "READY"]


def test_what_fails_during_a_reload_leaves_systemd_an_answer(
    service: Service, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("whatever it is")

    monkeypatch.setattr(service._parts, "keys_for", broken)
    before, service._serving = service.settings(), True
    service.reload()
    assert told[-1].startswith("READY=1")
    assert service.settings() is before


def test_a_stop_before_it_was_up_is_not_followed_by_its_being_up(
    service: Service, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = service._parts
    monkeypatch.setattr(parts, "start", lambda: None)
    monkeypatch.setattr(parts, "say_started", lambda address: told.append("started"))
    servers = SimpleNamespace(started=False)

    async def stopped_while_it_starts() -> None:
        beating = asyncio.create_task(service._beat(servers))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        service._why = "SIGTERM"
        servers.started = service._upkeep.tried = True
        parts.prober.look()
        await asyncio.wait_for(beating, 30)

    asyncio.run(stopped_while_it_starts())
    assert told == []
    assert not service._serving
