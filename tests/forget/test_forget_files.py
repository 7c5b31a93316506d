"""Files beside log and views: found by what they hold of an event, whole or torn, and nothing else touched."""

import json
from pathlib import Path

import pytest
from log_kit import event

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.tools.folder_files import FILES
from session_mgmt_mcp.tools.forget_files import Traces, clean, traces_of
from session_mgmt_mcp.tools.forget_match import MASK, Matcher, matcher

TEXT = "The key to the granary hangs behind the third beam,\nleft of the door; nobody but the miller knows of it."


def prompt(text: str) -> Event:
    new = event(json.dumps({"hook_event_name": "UserPromptSubmit", "prompt": text}).encode())
    return Event(1, new.event_id, new.envelope, new.payload)


def of_prompt(text: str) -> Traces:
    return traces_of(Matcher(), [prompt(text)], ())


@pytest.mark.parametrize("escaped", [False, True])
def test_any_stretch_of_a_long_text_gives_a_torn_write_away(escaped: bool) -> None:
    traces = of_prompt(TEXT)
    raw = json.dumps(TEXT).encode() if escaped else TEXT.encode()
    for at in range(len(raw) - 64):
        assert traces.in_bytes(b"\x00\xfe" + raw[at : at + 64] + b"\x00")
    assert not traces.in_bytes(b"\x00" * 100 + raw[:20])


def test_a_short_text_is_found_whole() -> None:
    assert of_prompt("granary key").in_bytes(b"..granary key..")
    assert not of_prompt("granary key").in_bytes(b"..granary..")


def test_a_line_that_says_nothing_gives_nothing_away() -> None:
    assert not of_prompt("-" * 200).in_bytes(b"x" + b"-" * 64 + b"x")


def test_a_session_is_known_by_its_whole_name() -> None:
    traces = traces_of(Matcher(), (), ["s-1"])
    assert traces.in_bytes(b"\xdaclaude-code/s-1\xac") and traces.in_bytes(b'{"session_id": "s-1"}')
    assert not traces.in_bytes(b"claude-code/s-10") and not traces.in_bytes(b"claude-code/s-1.x")


def test_only_what_holds_it_is_changed_and_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    for name in ("quarantine", "spool", "views"):
        (tmp_path / name).mkdir()
    (tmp_path / "quarantine" / "a.torn").write_text(f"half of {TEXT}")
    (tmp_path / "quarantine" / "b.torn").write_text("something else")
    (tmp_path / "spool" / "waiting.event").write_text(TEXT)
    (tmp_path / "server.log").write_text(f"got {TEXT}\nwent on")
    (tmp_path / "FORMAT.json").write_text(TEXT)  # the log's own files are not looked at
    done = clean(str(tmp_path), of_prompt(TEXT))
    assert done == (("quarantine/a.torn",), ("server.log",), ("spool/waiting.event",))
    assert (tmp_path / "server.log").read_text() == f"got {MASK}\nwent on"
    assert (tmp_path / "quarantine" / "b.torn").read_text() == "something else"
    assert clean(str(tmp_path), of_prompt(TEXT)) == ((), (), ("spool/waiting.event",))


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_keys_and_settings_say_stays_though_a_forgotten_text_is_equal_to_it(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text('{"projects": ["/home/mira/shop"]}')
    traces = traces_of(matcher(None, "mira"), [prompt("projects")], ())
    assert clean(str(tmp_path), traces) == ((), (), ())


def test_what_a_pattern_matches_is_masked_and_the_bytes_around_it_stay(tmp_path: Path) -> None:
    raw = b"\xff\xfe key-123 \x80\x81 key-456\n"
    (tmp_path / "notes.bin").write_bytes(raw)
    (tmp_path / "notes.bin").chmod(0o640)
    assert clean(str(tmp_path), traces_of(matcher(None, r"key-\d+"), (), ())).masked == ("notes.bin",)
    assert (tmp_path / "notes.bin").read_bytes() == raw.replace(b"key-123", MASK.encode()).replace(
        b"key-456", MASK.encode()
    )
    assert (tmp_path / "notes.bin").stat().st_mode & 0o777 == 0o640
