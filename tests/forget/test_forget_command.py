"""`forget` takes what was chosen out of log, views and every other file of the data folder, for good."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folder_copy import copy_folder
from forget_kit import FORMS, PLAIN, SECRET, hook, left_in, reply, report, transcript, user

from session_mgmt_mcp.core.log.frame import BLOB_BYTES_MIN
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and a transcript that was imported to it; copied, never used itself."""
    base = tmp_path_factory.mktemp("telling")
    path = transcript(
        base, "s-1", user("u-1", SECRET), reply("a-1", "I will not tell."), user("u-2", "go on")
    )
    with App.open(base / "data", create=True) as app:
        assert app.import_claude([path]).appended == 3
        app.maintain()
    report(base / "data", hook(prompt=SECRET), hook(prompt="go on"))
    places = left_in(base / "data")
    for part in ("journal/", "segments/", "views/query/", "views/lexical/"):
        assert any(name.startswith(part) for name in places), part
    return base


@pytest.fixture
def told(telling: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The secret in a transcript (sealed) and in a hook's report (in the journal); the transcript."""
    copy_folder(telling / "data", data)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(telling / "claude"))
    [path] = telling.glob("claude/projects/*/*.jsonl")
    return path


def forgotten_in(data: Path) -> int:
    """How many payloads a log lacks that verifies."""
    with App.open(data) as app:
        return verify(app.log.folder, app.log.log_id).forgotten


def plant(data: Path) -> dict[str, Path]:
    """The secret where nothing but a search of all files finds it."""
    torn = data / "quarantine" / "00000000000000000001-128-aa.torn"
    bad = data / "spool" / "not-hex.bad"
    left = data / "spool" / ("ab" * 16 + ".tmp")
    log = data / "server.log"
    state = data / "views" / "transcripts" / "notes.json"
    journal = data / "journal" / "00000000000000000009.journal.tmp"
    orphan = data / "segments" / "0123456789ab.tmp"
    rebuilding = data / "views" / "query" / "rebuilding" / "rows.parquet"
    for path in (torn, bad, left, state, journal, orphan, rebuilding):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x00\xff" + json.dumps({"said": SECRET}).encode())
    log.write_text(f"10:00 started\n10:01 got {PLAIN} from s-1\n10:02 stopped\n")
    os.utime(left, (0, 0))
    return {"torn": torn, "bad": bad, "tmp": left, "log": log, "state": state, "journal": journal}


def test_no_byte_of_a_pattern_is_left_in_any_file_and_the_log_verifies(
    run: Run, data: Path, told: Path
) -> None:
    planted = plant(data)
    done = run("forget", "--pattern", r"heron-\d+", "--yes", "--reason", "a leaked place")
    assert (done["forgotten"], done["findings"], done["upto"]) == (2, [], 5)
    assert left_in(data) == []
    assert forgotten_in(data) == 2
    assert planted["log"].read_text() == "10:00 started\n10:01 got […] from s-1\n10:02 stopped\n"
    assert not planted["torn"].exists() and not planted["journal"].exists()
    assert done["transcripts"] == [str(told)]
    assert run("search", "heron")["results"] == []
    assert run("search", "go on")["results"]


def test_importing_again_and_replaying_bring_nothing_back(run: Run, data: Path, told: Path) -> None:
    run("forget", "--pattern", PLAIN, "--yes")
    assert run("import", str(told))["appended"] == 0
    run("replay")
    assert left_in(data) == []
    assert run("search", "heron")["results"] == []


def test_a_later_report_of_a_forgotten_fact_is_forgotten_too(run: Run, data: Path, tmp_path: Path) -> None:
    with App.open(data, create=True):
        report(data, hook(prompt=SECRET), hook(prompt="go on"))
    run("forget", "1", "--yes")
    path = transcript(tmp_path, "s-1", user("u-1", SECRET), user("u-2", "go on"), user("u-3", SECRET))
    run("import", str(path))
    found = run("search", "heron")["results"]
    assert [r["record"] for r in found] == ["u-3"]  # said again later: that was not forgotten
    with App.open(data) as app:
        payloads = {e.position: e.payload for batch in app.log.read() for e in batch}
        twin = app.log.positions_of([app.log.get([4])[4].event_id])
    assert [p for p, payload in payloads.items() if payload is None] == [1, 4]
    assert list(twin.values()) == [4]
    assert forgotten_in(data) == 2


def test_a_position_takes_its_twins_along_and_leaves_the_rest(run: Run, data: Path, told: Path) -> None:
    with App.open(data) as app:
        [position] = [m.position for m in app.views.search("heron") if m.record == "u-1"]
    shown = run("forget", str(position), "--dry-run")["planned"]
    assert (shown["named"], shown["twins"], shown["sessions"]) == (1, [4], {"s-1": 2})
    assert forgotten_in(data) == 0
    run("forget", str(position), "--yes")
    assert left_in(data) == []
    assert len(run("search", "go on")["results"]) == 1


def test_a_prompt_said_twice_is_shown_once_when_its_first_telling_is_forgotten(run: Run, data: Path) -> None:
    with App.open(data, create=True):
        report(data, hook(prompt="again please"), hook(prompt="again please"))
    run("forget", "1", "--yes")
    assert [r["position"] for r in run("search", "again please")["results"]] == [2]
    run("replay")
    assert [r["position"] for r in run("search", "again please")["results"]] == [2]


def test_a_session_goes_whole_and_its_name_leaves_the_quarantine(run: Run, data: Path, told: Path) -> None:
    report(data, hook("s-2", prompt="other work"))
    torn = data / "quarantine" / "00000000000000000001-128-aa.torn"
    torn.write_bytes(b"\x01claude-code/s-1\x02half an event")
    kept = data / "quarantine" / "00000000000000000001-256-bb.torn"
    kept.write_bytes(b"\x01claude-code/s-11\x02half an event")
    done = run("forget", "--session", "s-1", "--yes")
    assert (done["forgotten"], done["files_removed"]) == (5, [f"quarantine/{torn.name}"])
    assert [s["session"] for s in run("sessions")["sessions"]] == ["s-2"]
    assert kept.exists()
    assert left_in(data) == []
    assert run("forget", "--session", "s-1", "--yes")["planned"]["forgotten_before"] == 5


def test_a_project_goes_with_everything_below_it_and_nothing_beside_it(run: Run, data: Path) -> None:
    with App.open(data, create=True):
        report(
            data, hook("s-1", prompt=SECRET, cwd="/shop/till"), hook("s-2", prompt="kept", cwd="/shopping")
        )
    assert run("forget", "--project", "/shop", "--yes")["forgotten"] == 1
    assert left_in(data) == []
    assert run("search", "kept")["results"]


def test_several_selectors_narrow_down(run: Run, data: Path) -> None:
    with App.open(data, create=True):
        report(data, hook("s-1", prompt=SECRET), hook("s-2", prompt=SECRET), hook("s-1", prompt="other"))
    shown = run("forget", "--session", "s-1", "--pattern", PLAIN, "--dry-run")["planned"]
    assert shown["ranges"] == [[1, 1]]
    assert run("forget", "1", "2", "3", "--query", "HERON mill", "--dry-run")["planned"]["ranges"] == [[1, 2]]


def test_a_pattern_is_found_in_every_form_it_can_be_written(run: Run, data: Path) -> None:
    said = [form.decode() for form in FORMS]
    nested = [json.dumps({"output": json.dumps({"inner": text})}) for text in said]
    with App.open(data, create=True):
        calls = [
            hook(name="PostToolUse", tool_name="X", tool_use_id=f"t-{k}", tool_response=n)
            for k, n in enumerate(nested)
        ]
        report(data, *calls, hook(prompt=SECRET))
    anchored = run("forget", "--pattern", '^the "blue" heron-7731 nests\n', "--dry-run")["planned"]
    assert anchored["ranges"] == [[2, 3], [5, 5]]  # the fourth begins with a quote
    assert run("forget", "--pattern", r'"blue\\*" heron|^heron-7731$', "--yes")["forgotten"] == 5
    assert left_in(data) == []


def test_a_reflection_can_be_forgotten(run: Run, data: Path) -> None:
    run("remember", SECRET)
    assert run("forget", "--pattern", PLAIN, "--yes")["forgotten"] == 1
    assert left_in(data) == []


def test_what_waits_in_the_spool_is_found_and_forgotten(run: Run, data: Path, told: Path) -> None:
    from session_mgmt_mcp.core.envelope import Envelope, encode_envelope, uuid7

    envelope = encode_envelope(Envelope("claude-code/s-9", "HookReported", 1, 5, 5, "user", "hook"))
    path = data / "spool" / f"{uuid7().hex()}.event"
    path.write_bytes(len(envelope).to_bytes(4, "little") + envelope + hook("s-9", prompt=SECRET))
    assert run("forget", "--pattern", PLAIN, "--yes")["forgotten"] == 3
    assert left_in(data) == []


def test_doing_it_again_finds_nothing_more(run: Run, data: Path, told: Path) -> None:
    run("forget", "--pattern", PLAIN, "--yes")
    with App.open(data) as app:
        head = app.log.head()
    assert run("forget", "--pattern", PLAIN, "--yes")["forgotten"] == 0
    assert run("forget", "1", "--yes")["planned"]["forgotten_before"] == 1
    with App.open(data) as app:
        assert app.log.head() == head


def test_pattern_and_words_are_kept_nowhere_and_the_reason_is(run: Run, data: Path, told: Path) -> None:
    run("forget", "--pattern", "her(o)n-[0-9]{4}", "--reason", "a leaked place", "--yes")
    assert left_in(data, [b"her(o)n-[0-9]{4}"]) == []
    assert left_in(data, [b"a leaked place"])


def test_the_preview_masks_what_the_pattern_matches(
    run: Run, data: Path, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", "--pattern", "heron-[0-9]+", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert PLAIN not in shown
    assert 'prompt: the "blue" […] nests' in shown


WRONG = [
    ((), "nothing was chosen"),
    (("--pattern", "(", "--yes"), "no regular expression"),
    (("--pattern", "x*", "--yes"), "matches the empty text"),
    (("--query", " ", "--yes"), "--query is empty"),
    (("99", "--yes"), "position 99 is not in the log"),
    (("--session", "nobody", "--yes"), "no session 'nobody'"),
    (("--pattern", PLAIN), "cannot be undone"),
    (("--pattern", PLAIN, "--reason", f"leaked {PLAIN}", "--yes"), "--reason holds what --pattern matches"),
]


def test_a_request_that_is_wrong_changes_nothing(run: Run, data: Path, told: Path) -> None:
    for words, says in WRONG:
        assert says in run("forget", *words, code=2)["error"]["message"]
    assert forgotten_in(data) == 0


def test_a_tombstone_cannot_be_forgotten_and_is_named_where_it_matches(
    run: Run, data: Path, told: Path
) -> None:
    run("forget", "1", "--yes", "--reason", "keep this in mind")
    with App.open(data) as app:
        last = app.log.head().position
    assert "it has to stay" in run("forget", str(last), "--yes", code=2)["error"]["message"]
    done = run("forget", "--pattern", "keep this in mind", "--yes", code=1)
    assert f"positions {last} match too" in done["findings"][0]


def test_a_process_that_holds_deleted_files_is_named(run: Run, data: Path, told: Path) -> None:
    [segment] = (data / "segments").glob("*.parquet")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()",
            segment,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None and child.stdout.readline()
        done = run("forget", "--pattern", PLAIN, "--yes", code=1)
    finally:
        child.communicate()
    assert [h["pid"] for h in done["holders"]] == [child.pid]
    assert f"process {child.pid} (" in done["findings"][0]


def test_an_open_server_does_not_show_it_afterwards(run: Run, data: Path, told: Path) -> None:
    with App.open(data) as server:
        [moment] = server.views.search("heron")
        assert server.log.get([moment.position])[moment.position].payload
        run("forget", "--pattern", PLAIN, "--yes")
        assert server.views.search("heron") == []
        assert server.log.get([moment.position])[moment.position].payload is None


def test_backups_lose_it_too_and_one_that_cannot_be_reached_is_named(
    run: Run, data: Path, told: Path, tmp_path: Path
) -> None:
    near, far, away = tmp_path / "near", tmp_path / "far", tmp_path / "away"
    run("backup", str(near))
    run("backup", str(far))
    far.rename(away)
    far.write_text("no folder any more")
    done = run("forget", "--pattern", PLAIN, "--yes", code=1)
    assert left_in(near) == []
    assert [str(far) in line for line in done["findings"]] == [True]
    far.unlink()
    away.rename(far)
    assert left_in(far)
    run("backup", str(far))
    assert left_in(far) == []


def test_an_older_backup_restored_holds_nothing_of_it(
    run: Run, data: Path, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    run("backup", str(tmp_path / "backup"))
    shutil.copytree(tmp_path / "backup", kept)  # one nobody knows of
    run("forget", "--pattern", PLAIN, "--yes")
    assert left_in(kept)
    run("restore", str(kept), "--to", str(tmp_path / "restored"))
    assert left_in(tmp_path / "restored") == []
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "restored"))
    run("import", str(told))
    assert left_in(tmp_path / "restored") == []
    assert run("search", "heron")["results"] == []


def test_a_link_in_the_data_folder_is_not_followed(run: Run, data: Path, told: Path) -> None:
    outside = data.parent / "notes.txt"
    outside.write_text(SECRET)
    (data / "notes").symlink_to(outside)
    run("forget", "--pattern", PLAIN, "--yes")
    assert outside.read_text() == SECRET


def test_asked_on_a_terminal_no_forgets_nothing_and_yes_forgets(
    run: Run, data: Path, told: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert main(["forget", "--pattern", PLAIN]) == 1
    assert forgotten_in(data) == 0
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["forget", "--pattern", PLAIN]) == 0
    assert "2 payloads are gone" in capsys.readouterr().out
    assert left_in(data) == []


def test_a_pattern_can_be_read_from_stdin(
    run: Run, data: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PLAIN}\n"))
    assert run("forget", "--pattern", "-", "--yes")["forgotten"] == 2


def test_what_hooks_append_meanwhile_is_kept(run: Run, data: Path, told: Path) -> None:
    done = threading.Event()
    appended = 0

    def work() -> None:
        nonlocal appended
        while not done.is_set() and appended < 300:  # each leaves two descriptors open, as a hook may
            report(data, hook("s-7", prompt=f"work {appended}"))
            appended += 1

    writer = threading.Thread(target=work)
    writer.start()
    try:
        run("forget", "--pattern", PLAIN, "--yes")
    finally:
        done.set()
        writer.join()
    with App.open(data) as app:
        events = [e for batch in app.log.read() for e in batch]
    assert sum(e.envelope.session == "s-7" and e.payload is not None for e in events) == appended
    assert left_in(data) == []
    assert forgotten_in(data) == 2


def test_a_large_content_goes_with_the_last_event_that_refers_to_it(
    run: Run, data: Path, tmp_path: Path
) -> None:
    content = f"{PLAIN} " + "x" * (2 * BLOB_BYTES_MIN)

    def edit(session: str) -> str:
        return user(f"u-{session}", "edited", session, toolUseResult={"originalFile": content})

    path = transcript(tmp_path, "s-1", edit("s-1"))
    transcript(tmp_path, "s-2", edit("s-2"))
    run("import", str(path.parent))
    assert run("forget", "--session", "s-1", "--yes")["blobs"] == 0
    assert left_in(data)
    assert run("forget", "--session", "s-2", "--yes")["blobs"] == 1
    assert left_in(data) == []
