"""`import` takes files of several formats at once, tells them apart, and says what it did with each."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.tools.cli import main

BUNDLED = Path(install.__file__).parent / "demo" / "projects"
Run = Callable[..., Any]
LINES = [
    {"session": "chat/1", "record": 1, "time": "2026-03-01T10:00:00Z", "actor": "Caroline", "text": "the museum"},
    {"session": "chat/1", "record": 2, "actor": "Melanie", "text": "which one?", "mood": "curious"},
]  # fmt: skip


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of transcripts with a generic file among them."""
    folder = tmp_path / "mixed"
    shutil.copytree(BUNDLED, folder)
    (folder / "chat.jsonl").write_bytes(lines())
    return folder


def lines() -> bytes:
    return "".join(json.dumps(line) + "\n" for line in LINES).encode()


def test_a_folder_of_both_formats_is_imported_whole_and_once(mixed: Path, run: Run) -> None:
    alone = run("import", str(BUNDLED), "--no-views")
    report = run("import", str(mixed), "--no-views")
    assert (report["appended"], report["duplicates"]) == (2, alone["appended"])
    assert (report["files"], report["read"]) == (alone["files"] + 1, alone["read"] + 2)
    assert report["unknown_fields"] == {"mood": 1}
    assert run("import", str(mixed), "--no-views")["appended"] == 0


def test_what_was_imported_is_found_with_its_speaker(mixed: Path, run: Run) -> None:
    run("import", str(mixed / "chat.jsonl"))
    (found,) = run("search", "museum")["results"]
    assert (found["actor"], found["session"], found["assistant"]) == ("Caroline", "chat/1", "generic")
    assert (found["record"], found["occurred_at"]) == ("1", "2026-03-01T10:00:00.000Z")


def test_stdin_is_read_in_the_generic_format(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines() + b"{torn")))
    report = run("import", "-", "--no-views", code=1)
    assert (report["appended"], report["errors"]) == (2, 1)
    assert (report["error_samples"][0]["path"], report["error_samples"][0]["line"]) == ("stdin", 3)


def test_a_format_that_is_named_is_taken_at_its_word(mixed: Path, run: Run, data: Path) -> None:
    report = run("import", str(mixed / "chat.jsonl"), "--format", "claude-code", "--no-views")
    assert report["unknown"] == report["appended"] == 2
    (transcript, *_) = sorted(BUNDLED.rglob("*.jsonl"))
    refused = run("import", str(transcript), "--format", "generic", "--no-views", code=1)
    assert refused["errors"] == refused["read"]
    assert "session" in refused["error_samples"][0]["reason"]


def test_transcripts_on_stdin_are_refused_before_anything_is_made(run: Run, data: Path) -> None:
    assert "stdin" in run("import", "-", "--format", "claude-code", code=2)["error"]["message"]
    assert not data.exists()


def test_people_are_told_what_changed_and_what_is_not_known(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(lines())
    assert main(["import", str(path), "--no-views"]) == 0
    assert "unknown fields, kept raw: mood 1" in capsys.readouterr().out
    path.write_bytes(lines().replace(b"the museum", b"the zoo"))
    assert main(["import", str(path), "--no-views"]) == 0
    assert "not as they are in the log: 1" in capsys.readouterr().out
