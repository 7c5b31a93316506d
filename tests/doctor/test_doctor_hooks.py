"""The doctor on the assistant: registered, pointing here, working, and really reporting."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.adapters.claude_code.client import Client
from session_mgmt_mcp.core.envelope import now_us, uuid7
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.tools.doctor import assistant

from log_kit import event  # isort: skip

Doctor = Callable[..., dict[str, Any]]


def _hooks(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [f for f in answer["findings"] if f["check"] == "hooks" and f["severity"] != "note"]


def _point_at(client: Client, before: str, after: str) -> None:
    text = client.settings.read_text()
    assert before in text
    client.settings.write_text(text.replace(before, after))


def test_a_registered_installation_that_works_is_nothing_to_mend(client: Client, doctor: Doctor) -> None:
    assert _hooks(doctor(code=0)) == []


def test_the_trial_leaves_nothing_in_the_data_folder_and_no_scratch_folder(
    client: Client, data: Path, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    doctor(code=0)
    assert list(tmp_path.glob("session-mgmt-doctor-*")) == []
    with FileLog(data) as log:
        assert log.head().position == 44


def test_without_an_assistant_that_is_a_note(data: Path, doctor: Doctor) -> None:
    assert any("no Claude Code was found" in f["what"] for f in doctor(code=0)["findings"])


def test_an_assistant_that_never_was_set_up_is_left_to_setup(
    data: Path, doctor: Doctor, tmp_path: Path
) -> None:
    (tmp_path / "claude").mkdir()
    [finding] = _hooks(doctor("--fix", code=1))
    assert "does not call this program" in finding["what"] and "setup" in finding["mend"]
    assert list((tmp_path / "claude").iterdir()) == []


def test_hooks_of_a_removed_environment_are_registered_again(client: Client, doctor: Doctor) -> None:
    good = client.settings.read_bytes()
    python = install.this_installation(Path("/")).python
    _point_at(client, python, "/gone/bin/python")
    findings = _hooks(doctor(code=1))
    assert any("/gone/bin/python is gone" in f["what"] for f in findings)
    answer = doctor("--fix", code=0)
    assert any("registered this installation" in line for line in answer["mended"])
    assert client.settings.read_bytes() == good


def test_hooks_of_a_moved_installation_are_registered_again(
    client: Client, doctor: Doctor, tmp_path: Path
) -> None:
    """It still works where it was, and writes the same data: the one that is asked takes over."""
    script = install.this_installation(Path("/")).script
    package = tmp_path / "old" / "session_mgmt_mcp"
    shutil.copytree(script.parents[2], package, ignore=shutil.ignore_patterns("__pycache__"))
    _point_at(client, str(script), str(package / "adapters" / "claude_code" / "hook.py"))
    [finding] = _hooks(doctor(code=1))
    assert "another installation" in finding["what"] and str(package) in finding["what"]
    doctor("--fix", code=0)


def test_hooks_for_another_data_folder_are_left_to_setup(
    client: Client, data: Path, doctor: Doctor, tmp_path: Path
) -> None:
    _point_at(client, str(data), str(tmp_path / "elsewhere"))
    before = client.settings.read_bytes()
    [finding] = _hooks(doctor("--fix", code=1))
    assert "another data folder" in finding["what"] and finding["fix"] is None
    assert client.settings.read_bytes() == before


def test_a_hook_that_does_not_run_is_said_with_its_reason(
    client: Client, doctor: Doctor, tmp_path: Path
) -> None:
    script = tmp_path / "session_mgmt_mcp" / "adapters" / "claude_code" / "hook.py"
    script.parent.mkdir(parents=True)
    _point_at(client, str(install.this_installation(Path("/")).script), str(script))
    for text, said in (
        ("import no_such_module", "no_such_module"),
        ("raise SystemExit(2)", "exit code 2"),
        ("", "no log"),
    ):
        script.write_text(text)
        assert any(said in f["what"] and f["severity"] == "error" for f in _hooks(doctor(code=1))), said


def test_a_missing_hook_and_a_missing_server_are_registered_again(client: Client, doctor: Doctor) -> None:
    settings = json.loads(client.settings.read_bytes())
    del settings["hooks"]["SessionEnd"]
    client.settings.write_text(json.dumps(settings))
    servers = json.loads(client.servers.read_bytes())
    servers["mcpServers"] = {}
    client.servers.write_text(json.dumps(servers))
    [finding] = _hooks(doctor(code=1))
    assert "not call this installation on every event" in finding["what"]
    assert len(doctor("--fix", code=0)["mended"]) == 2


def test_a_malformed_settings_file_is_said_and_left(client: Client, doctor: Doctor) -> None:
    client.settings.write_text('{"hooks": ')
    assert any(str(client.settings) in f["what"] for f in _hooks(doctor("--fix", code=1)))
    assert client.settings.read_text() == '{"hooks": '


def test_disabled_hooks_are_a_warning(client: Client, doctor: Doctor) -> None:
    settings = json.loads(client.settings.read_bytes())
    client.settings.write_text(json.dumps({**settings, "disableAllHooks": True}))
    assert any("disableAllHooks" in f["what"] for f in _hooks(doctor(code=1)))


def _transcript(client: Client, age_s: float) -> None:
    path = client.transcripts / "-home-mira" / "s-1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")
    moment = time.time() - age_s
    os.utime(path, (moment, moment))


def test_an_assistant_at_work_whose_hooks_are_silent_is_said(
    client: Client, data: Path, doctor: Doctor
) -> None:
    long_ago = time.time() - 86_400
    os.utime(client.settings, (long_ago, long_ago))
    _transcript(client, 60)
    [finding] = _hooks(doctor(code=1))
    assert "no hook ever did" in finding["what"] and "s-1.jsonl" in finding["where"]
    with FileLog(data) as log:
        reported = event(b"{}", event_id=uuid7())
        import msgspec

        envelope = msgspec.structs.replace(reported.envelope, recorded_at=now_us())
        log.append([reported._replace(envelope=envelope)])
    assert _hooks(doctor(code=0)) == []


def test_an_assistant_that_was_not_used_since_setup_is_not_called_silent(
    client: Client, doctor: Doctor
) -> None:
    _transcript(client, 7_200)
    assert _hooks(doctor(code=0)) == []


def test_another_installation_on_the_path_is_a_note(
    data: Path, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bin" / "session-mgmt-mcp"
    script.parent.mkdir()
    script.write_text("#!/opt/other/bin/python\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    [finding] = [f for f in doctor(code=0)["findings"] if f["check"] == "installation"]
    assert "/opt/other/bin/python" in finding["what"] and finding["where"] == str(script)


def test_a_hook_that_does_not_end_is_given_up(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = install.this_installation(tmp_path)
    script = tmp_path / "hook.py"
    script.write_text("import signal; signal.pause()")
    monkeypatch.setattr(assistant, "HOOK_TIMEOUT_S", 0.5)
    said = assistant.run_hook(target._replace(script=script))
    assert said is not None and "timed out" in said
