"""Maintenance: what hooks left is appended, live transcripts are read on, journals are sealed when they are due."""

import fcntl
import json
import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import pytest

from session_mgmt_mcp.adapters.claude_code.capture import capture
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.tools import maintenance
from session_mgmt_mcp.tools.app import App


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App.open(tmp_path / "data", create=True)


def hook(transcript: Path, **fields: object) -> bytes:
    named = {"session_id": "s-1", "transcript_path": str(transcript), "cwd": "/shop", **fields}
    return json.dumps(named).encode()


def reply(uuid: str, text: str) -> str:
    message = {"id": f"m-{uuid}", "role": "assistant", "content": [{"type": "text", "text": text}]}
    return json.dumps({"type": "assistant", "uuid": uuid, "sessionId": "s-1", "message": message}) + "\n"


def test_a_transcript_a_hook_names_is_read_to_its_end_and_read_on_from_there(
    app: App, tmp_path: Path
) -> None:
    transcript = tmp_path / "s-1.jsonl"
    transcript.write_text(reply("a-1", "the hinges are oiled"))
    capture(str(app.folder), hook(transcript, hook_event_name="UserPromptSubmit", prompt="oil the hinges"))
    first = maintenance.maintain(app.log)
    assert first.imported.appended == 1
    with transcript.open("a") as file:
        file.write(reply("a-2", "and the gate is painted"))
    second = maintenance.maintain(app.log)
    assert (second.imported.read, second.imported.appended) == (1, 1)
    assert [m.record for m in app.views.search("gate painted")][:1] == ["a-2"]
    app.close()


def test_a_line_that_is_still_being_written_waits_for_its_end(app: App, tmp_path: Path) -> None:
    transcript = tmp_path / "s-1.jsonl"
    line = reply("a-1", "the hinges are oiled")
    transcript.write_text(line[:40])
    capture(str(app.folder), hook(transcript, hook_event_name="SubagentStop"))
    assert maintenance.maintain(app.log).imported.read == 0
    transcript.write_text(line)
    assert maintenance.maintain(app.log).imported.appended == 1
    app.close()


def test_subagents_beside_a_live_transcript_are_read_too(app: App, tmp_path: Path) -> None:
    transcript = tmp_path / "s-1.jsonl"
    transcript.write_text(reply("a-1", "asked a helper"))
    helper = tmp_path / "s-1" / "subagents" / "agent-9.jsonl"
    helper.parent.mkdir(parents=True)
    helper.write_text(reply("a-9", "the helper says hello"))
    capture(str(app.folder), hook(transcript, hook_event_name="SubagentStop"))
    assert maintenance.maintain(app.log).imported.appended == 2
    app.close()


def test_a_log_restored_to_an_earlier_point_is_filled_from_the_transcripts_again(tmp_path: Path) -> None:
    transcript = tmp_path / "s-1.jsonl"
    transcript.write_text(reply("a-1", "the hinges are oiled"))
    first = App.open(tmp_path / "one", create=True)
    capture(str(first.folder), hook(transcript, hook_event_name="SubagentStop"))
    maintenance.maintain(first.log)
    first.close()
    second = App.open(tmp_path / "two", create=True)
    capture(str(second.folder), hook(transcript, hook_event_name="SubagentStop"))
    (tmp_path / "one" / "views" / "transcripts").rename(tmp_path / "two" / "views" / "transcripts")
    assert maintenance.maintain(second.log).imported.appended == 1
    second.close()


def test_what_hooks_spooled_is_appended_once(app: App, tmp_path: Path) -> None:
    folder = str(app.folder)
    lock = stopped_appender(app)
    capture(
        folder,
        hook(tmp_path / "none.jsonl", hook_event_name="SubagentStop", last_assistant_message="spooled"),
    )
    lock.close()
    assert app.status()["spooled"] == 1
    assert maintenance.maintain(app.log).unspooled == 1
    assert maintenance.maintain(app.log).unspooled == 0
    payloads = [event.payload or b"" for batch in app.log.read() for event in batch]
    assert [b"spooled" in payload for payload in payloads] == [True]
    app.close()


def stopped_appender(app: App) -> TextIO:
    """Hold the append lock as a stopped process would, until closed."""
    file = (app.folder / "append.lock").open("a", encoding="ascii")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def test_a_spooled_file_that_holds_no_event_is_kept_and_reported(app: App) -> None:
    (app.folder / "spool" / "nonsense.event").write_bytes(b"\xff\xff\xff\xff what")
    assert maintenance.maintain(app.log).unreadable == 1
    assert (app.folder / "spool" / "nonsense.bad").read_bytes() == b"\xff\xff\xff\xff what"
    assert any("no event" in finding for finding in app.status()["findings"])
    app.close()


def test_a_spooled_file_a_hook_was_killed_over_goes_once_it_is_old(app: App) -> None:
    unfinished = app.folder / "spool" / "0123.tmp"
    unfinished.write_bytes(b"half")
    maintenance.maintain(app.log)
    assert unfinished.exists()
    os.utime(unfinished, (0, 0))
    maintenance.maintain(app.log)
    assert not unfinished.exists()
    app.close()


def test_a_young_small_journal_stays_open_and_an_old_or_full_one_is_sealed(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.remember("one")
    assert maintenance.maintain(app.log).sealed == 0
    monkeypatch.setattr(maintenance, "DUE_AGE_S", -1)
    assert maintenance.maintain(app.log).sealed == 1
    monkeypatch.setattr(maintenance, "DUE_AGE_S", 900)
    monkeypatch.setattr(maintenance, "DUE_EVENTS", 2)
    app.remember("two")
    assert maintenance.maintain(app.log).sealed == 1
    app.remember("three")
    assert maintenance.maintain(app.log).sealed == 3
    app.close()


def test_of_two_at_once_the_second_is_told_and_changes_nothing(app: App) -> None:
    with (
        maintenance.maintenance_lock(app.log.folder, 0),
        pytest.raises(LockTimeoutError, match="maintaining"),
    ):
        maintenance.maintain(app.log)
    app.close()


def test_a_server_goes_on_where_maintenance_cannot_be_started_and_leaves_no_zombie_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(maintenance, "spawn_maintenance", refuse)
    maintenance.start(str(tmp_path))
    true = shutil.which("true") or "/bin/true"
    started: list[int] = []

    def spawn(_: str) -> int:
        started.append(os.posix_spawn(true, ["true"], {}))
        return started[-1]

    monkeypatch.setattr(maintenance, "spawn_maintenance", spawn)
    maintenance.start(str(tmp_path))
    for thread in threading.enumerate():
        if thread.name == "maintenance":
            thread.join()
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


def timed(uuid: str, text: str, at_us: int) -> str:
    when = datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()
    return json.dumps({**json.loads(reply(uuid, text)), "timestamp": when}) + "\n"


def test_what_a_transcript_holds_of_a_pause_is_left_out_while_it_lasts_and_afterwards(
    app: App, tmp_path: Path
) -> None:
    transcript = tmp_path / "s-1.jsonl"
    transcript.write_text(timed("a-1", "before the pause", now_us()))
    capture(str(app.folder), hook(transcript, hook_event_name="SubagentStop"))
    app.pause()
    with transcript.open("a") as file:
        file.write(timed("a-2", "a private matter", now_us()))
        file.write(reply("a-3", "a private matter without a time"))
    during = maintenance.maintain(app.log).imported
    assert (during.appended, during.noise_by_type) == (1, {"while paused": 2})
    with transcript.open("a") as file:
        file.write(timed("a-4", "another private matter", now_us()))
    app.resume()
    with transcript.open("a") as file:
        file.write(timed("a-5", "after the pause", now_us()))
    after = maintenance.maintain(app.log).imported
    assert (after.appended, after.noise_by_type) == (1, {"while paused": 1})
    shutil.rmtree(app.folder / "views" / "transcripts")  # what was learned is learned again from the log
    assert maintenance.maintain(app.log).imported.noise == 3
    assert b"private" not in b"".join(e.payload or b"" for batch in app.log.read() for e in batch)
    app.close()


def test_a_transcript_that_became_quiet_before_anybody_read_it_is_read_once(app: App, tmp_path: Path) -> None:
    transcript = tmp_path / "s-1.jsonl"
    transcript.write_text(reply("a-1", "the hinges are oiled"))
    os.utime(transcript, (1, 1))
    capture(str(app.folder), hook(transcript, hook_event_name="SubagentStop"))
    assert maintenance.maintain(app.log).imported.appended == 1
    assert maintenance.maintain(app.log).imported.files == 0
    app.close()
