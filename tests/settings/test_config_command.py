"""`config`: what it shows, checks and writes."""

import json
import stat
import tomllib
from pathlib import Path

import pytest

from session_mgmt_mcp.core.config import TABLE, load
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.doctor.settings import check_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of who runs the tests; the folder that the default file would lie in."""
    import os

    for name in list(os.environ):
        if name.startswith("SESSION_MGMT_") or name in ("DATABASE_URL", "REDIS_URL", "MAX_WORKERS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    return tmp_path / "conf" / "session-mgmt-mcp"


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:  # type: ignore[type-arg]
    code = main(["config", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_show_tells_each_value_and_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_settings: Path
) -> None:
    no_settings.mkdir(parents=True)
    (no_settings / "config.toml").write_text("# mine\nrate_limit = 50\n")
    monkeypatch.setenv("MAX_WORKERS", "3")
    code, found = _json(capsys, "show")
    assert code == 0
    assert set(found["settings"]) == set(TABLE)
    rate, workers = found["settings"]["rate_limit"], found["settings"]["max_workers"]
    assert (rate["value"], rate["origin"], rate["default"]) == (50, "file", 600)
    assert rate["where"] == f"{no_settings}/config.toml:2"
    assert (workers["value"], workers["origin"], workers["where"]) == (3, "environment", "MAX_WORKERS")
    main(["config", "show"])
    assert f"rate_limit = 50   [{no_settings}/config.toml:2; default 600]" in capsys.readouterr().out


def test_show_hides_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://mira:topsecret@db/x")
    assert main(["config", "show"]) == 0
    assert main(["config", "show", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "topsecret" not in shown
    assert 'database_url = "(set, not shown)"' in shown


def test_show_names_variables_that_nothing_reads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SESSION_MGMT_RATE_LIMITS", "1")
    main(["config", "show"])
    assert "SESSION_MGMT_RATE_LIMITS; did you mean SESSION_MGMT_RATE_LIMIT?" in capsys.readouterr().err
    assert ["SESSION_MGMT_RATE_LIMITS" in found.what for found in check_settings(str(tmp_path))] == [True]


def test_a_malformed_setting_ends_with_code_6(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SESSION_MGMT_HTTP_PORT", "x")
    assert main(["config", "show"]) == 6
    assert "SESSION_MGMT_HTTP_PORT" in capsys.readouterr().err
    assert ["SESSION_MGMT_HTTP_PORT" in found.what for found in check_settings(str(tmp_path))] == [True]


def test_init_writes_a_file_whose_comments_are_the_defaults(
    capsys: pytest.CaptureFixture[str], no_settings: Path
) -> None:
    assert main(["config", "init"]) == 0
    written = no_settings / "config.toml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    text = written.read_text()
    assert tomllib.loads(text) == {}
    lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    settings = [line for line in lines if line.partition(" = ")[0] in TABLE]
    written.write_text("\n".join(settings))
    assert len(settings) == len(TABLE)
    assert load({}, str(written)) == load({})


def test_init_never_writes_over_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("http_port = 1\n")
    assert main(["config", "init", str(mine)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert mine.read_text() == "http_port = 1\n"


def test_check_judges_a_file_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SESSION_MGMT_HTTP_PORT", "malformed, and not in the file")
    good, bad, dangling = (tmp_path / name for name in ("good.toml", "bad.toml", "dangling.toml"))
    good.write_text("http_port = 1\n")
    bad.write_text("http_port = -1\n")
    dangling.write_text('admin_key_file = "none"\n')
    assert _json(capsys, "check", str(good)) == (0, {"file": str(good), "set": ["http_port"], "findings": []})
    assert main(["config", "check", str(bad)]) == 6
    assert f"{bad}:1: http_port is -1" in capsys.readouterr().err
    assert main(["config", "check", str(dangling)]) == 1
    assert "admin_key_file" in capsys.readouterr().err
