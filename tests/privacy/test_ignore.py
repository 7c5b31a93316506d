"""What the user's rules leave out: whole projects, and what stands in files of some paths; in hooks, imports and commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from folder_bytes import contents
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.claude_code import capture
from session_mgmt_mcp.adapters.claude_code.importer import Bookmarks, import_files
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ignore import DEFAULT_PATHS, Rules, left_out, matches, read_rules
from session_mgmt_mcp.core.ignore_contents import Contents
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.tools import ignoring
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.importing import import_paths

HOOK = Path(capture.__file__).parent / "hook.py"
INSIDE = "the tide table of the third harbour"


def hook(folder: Path, **fields: Any) -> subprocess.CompletedProcess[bytes]:
    payload = json.dumps(
        {"session_id": "s-1", "cwd": "/shop", "hook_event_name": "PostToolUse", **fields}
    ).encode()
    env = {k: v for k, v in os.environ.items() if not k.startswith("CLAUDE")} | fields.pop("env", {})
    command = [sys.executable, "-I", "-S", str(HOOK), "--data-dir", str(folder)]
    return subprocess.run(command, input=payload, env=env, capture_output=True, check=True)


def payloads(folder: Path) -> list[Any]:
    with FileLog(folder) as log:
        return [json.loads(event.payload or b"null") for batch in log.read() for event in batch]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    FileLog(tmp_path / "data", create=True).close()
    return tmp_path / "data"


def read_of(path: str) -> dict[str, Any]:
    return {
        "tool_name": "Read",
        "tool_input": {"file_path": path},
        "tool_response": {"type": "text", "file": {"filePath": path, "content": INSIDE, "numLines": 1}},
    }


def test_a_hook_keeps_the_event_and_leaves_out_what_stood_in_an_ignored_file(data: Path) -> None:
    ignoring.add(data, [], ["*.tide"])
    hook(data, **read_of("/shop/notes/a.tide"))
    hook(data, **read_of("/shop/notes/a.txt"))
    masked, whole = payloads(data)
    assert masked["tool_input"] == {"file_path": "/shop/notes/a.tide"}
    assert masked["tool_response"]["file"] == {
        "filePath": "/shop/notes/a.tide", "content": "[ignored: **/*.tide]", "numLines": 1
    }  # fmt: skip
    assert whole["tool_response"]["file"]["content"] == INSIDE


@pytest.mark.parametrize(
    "path", ["/shop/.env", "/home/x/.ssh/id_ed25519", "/etc/tls/site.pem", "/home/x/.netrc"]
)
def test_files_of_credentials_are_left_out_without_a_rule(data: Path, path: str) -> None:
    hook(data, **read_of(path))
    hook(
        data, tool_name="Write", tool_input={"file_path": path, "content": INSIDE}, tool_response={"ok": True}
    )
    hook(data, tool_name="Edit", tool_input={"file_path": path, "old_string": INSIDE, "new_string": INSIDE})
    assert INSIDE not in json.dumps(payloads(data))
    assert len(payloads(data)) == 3


def test_every_default_rule_is_hinted_at_in_what_a_hook_looks_for_first() -> None:
    for pattern in DEFAULT_PATHS:
        assert any(hint.decode() in pattern for hint in capture.IGNORED_HINTS), pattern


def test_a_template_of_credentials_is_kept(data: Path) -> None:
    hook(data, **read_of("/shop/.env.example"))
    assert INSIDE in json.dumps(payloads(data))


def test_a_default_rule_can_be_switched_off_and_on_again(data: Path) -> None:
    ignoring.remove(data, [], ["**/.env"])
    hook(data, **read_of("/shop/.env"))
    ignoring.add(data, [], [".env"])
    hook(data, **read_of("/shop/.env"))
    assert [INSIDE in json.dumps(payload) for payload in payloads(data)] == [True, False]


def test_nothing_of_an_ignored_project_is_stored_but_its_number(data: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.mkdir()
    ignoring.add(data, [str(diary)], [])
    for cwd in (str(diary), f"{diary}/deep/down"):
        for event in ("SessionStart", "UserPromptSubmit", "Stop"):
            done = hook(data, cwd=cwd, hook_event_name=event, prompt=INSIDE)
            assert (done.stdout, done.stderr) == (b"", b"")
    hook(data, cwd=f"{diary}-of-another", hook_event_name="UserPromptSubmit", prompt="kept")
    assert [payload["prompt"] for payload in payloads(data)] == ["kept"]
    assert left_out(str(data)) == 6
    assert not any(INSIDE.encode() in raw for _, raw in contents(data))


def test_a_session_begun_in_an_ignored_project_is_left_out_wherever_it_goes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignoring.add(data, [str(tmp_path / "diary")], [])
    hook(
        data,
        hook_event_name="UserPromptSubmit",
        prompt=INSIDE,
        env={"CLAUDE_PROJECT_DIR": str(tmp_path / "diary")},
    )
    assert payloads(data) == []


def test_a_worktree_of_an_ignored_project_is_ignored(data: Path, tmp_path: Path) -> None:
    main_folder, tree = tmp_path / "repo", tmp_path / "tree"
    (main_folder / ".git" / "worktrees" / "tree").mkdir(parents=True)
    (main_folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (main_folder / ".git" / "worktrees" / "tree" / "commondir").write_text("../..\n")
    (main_folder / ".git" / "worktrees" / "tree" / "HEAD").write_text("ref: refs/heads/x\n")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main_folder}/.git/worktrees/tree\n")
    ignoring.add(data, [str(main_folder)], [])
    assert ignoring.check(data, str(tree)).project == str(main_folder)


def transcript(path: Path, cwd: str, file: str) -> Path:
    call = {
        "type": "tool_use",
        "id": "toolu_7",
        "name": "Edit",
        "input": {"file_path": file, "new_string": INSIDE},
    }
    records: list[dict[str, Any]] = [
        {"type": "summary", "summary": "a summary", "leafUuid": "x"},
        {"type": "assistant", "uuid": "u1", "cwd": cwd, "message": {"role": "assistant", "content": [call]}},
        {"type": "user", "uuid": "u2", "cwd": "/elsewhere", "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_7", "content": f"1 {INSIDE}"}]},
         "toolUseResult": {"filePath": file, "originalFile": INSIDE, "structuredPatch": [{"lines": [f"+{INSIDE}"]}]}},
        {"type": "attachment", "uuid": "u3", "cwd": cwd,
         "attachment": {"type": "edited_text_file", "filename": file, "snippet": INSIDE}},
    ]  # fmt: skip
    path.write_text("".join(json.dumps({"sessionId": "s-1", **record}) + "\n" for record in records))
    return path


def test_an_import_leaves_out_what_calls_results_and_attachments_say_of_an_ignored_file(
    data: Path, tmp_path: Path
) -> None:
    with App.open(data) as app:
        report = import_paths(app, [str(transcript(tmp_path / "s-1.jsonl", "/shop", "/shop/.env"))])
    assert report.appended == 4
    assert INSIDE not in json.dumps(payloads(data))
    assert json.dumps(payloads(data)).count("[ignored: **/.env]") >= 4


def test_a_result_is_known_by_its_call_when_reading_goes_on_between_the_two(
    data: Path, tmp_path: Path
) -> None:
    path = transcript(tmp_path / "s-1.jsonl", "/shop", "/shop/.env")
    lines = path.read_bytes().splitlines(keepends=True)
    with FileLog(data) as log:
        for part in (lines[:2], lines):
            path.write_bytes(b"".join(part))
            import_files([path], log, redact=redact, bookmarks=Bookmarks(tmp_path / "marks"), rules=Rules())
    assert INSIDE not in json.dumps(payloads(data))
    assert len(payloads(data)) == 4


def test_an_import_leaves_out_the_sessions_of_an_ignored_project(data: Path, tmp_path: Path) -> None:
    ignoring.add(data, [str(tmp_path / "diary")], [])
    with App.open(data) as app:
        path = transcript(tmp_path / "s-1.jsonl", str(tmp_path / "diary"), "/x")
        report = import_paths(app, [str(path)])
        assert (report.appended, report.noise_by_type.get("ignored project")) == (0, 4)
        entries = tmp_path / "entries.jsonl"
        here = {"session": "a", "actor": "user", "text": INSIDE}
        entries.write_text(
            json.dumps({**here, "project": f"{tmp_path}/diary/x"})
            + "\n"
            + json.dumps({**here, "text": "kept"})
            + "\n"
        )
        report = import_paths(app, [str(entries)])
        assert (report.appended, report.noise_by_type.get("ignored project")) == (1, 1)
    assert INSIDE not in json.dumps(payloads(data))


def test_the_generic_format_loses_what_calls_and_their_results_say_of_an_ignored_file() -> None:
    contents_of = Contents(Rules())
    call = {
        "session": "a",
        "call": "c1",
        "files": ["conf/.env"],
        "edit": INSIDE,
        "text": INSIDE,
        "project": "/shop",
    }
    answer = {"session": "a", "call": "c1", "text": INSIDE}
    other = {"session": "b", "call": "c1", "text": INSIDE}
    said = [json.loads(contents_of.without(json.dumps(value).encode())) for value in (call, answer, other)]
    assert [INSIDE in json.dumps(value) for value in said] == [False, False, True]


@pytest.mark.parametrize(
    "raw",
    [b"", b"not json", b"[1, 2]", b'{"file_path": "/x/.env"', b'{"file_path": 3}', b'{"file_path": ["/x/.env"]}',
     b'{"path": "\\ud800/.env", "text": "a"}', b'{"file_path": "' + b"\\" * 31 + b'", "x": "/.env"}', b'{"path":' * 3000],
)  # fmt: skip
def test_odd_payloads_do_no_harm(raw: bytes) -> None:
    result = Contents(Rules()).without(raw)
    assert result == raw or json.loads(result)


def test_a_path_written_in_escapes_is_seen() -> None:
    raw = (
        b'{"tool_input": {"file_path": "\\u002fshop\\/.en\\u0076"}, "tool_response": "'
        + INSIDE.encode()
        + b'"}'
    )
    assert INSIDE.encode() not in Contents(Rules()).without(raw)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**/.env", "/.env", True),
        ("**/.env", "/a/b/.env", True),
        ("**/.env", "/a/.env/b", False),
        ("/a/**", "/a/b/c", True),
        ("/a/*/c", "/a/b/x/c", False),
        ("/a/**/c", "/a/c", True),
        ("**/secrets/**/*.yaml", "/x/secrets/a/b.yaml", True),
        ("**/id_*", "/home/x/.ssh/id_rsa", True),
        ("**/?.txt", "/ab.txt", False),
    ],
)
def test_a_pattern_matches_whole_paths(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


_NAMES = st.text("ab*?", min_size=1, max_size=4).filter(lambda name: "**" not in name)


@given(
    st.lists(st.sampled_from(["**"]) | _NAMES, min_size=1, max_size=5),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=5),
)
def test_a_pattern_matches_what_the_same_regular_expression_does(
    patterns: list[str], names: list[str]
) -> None:
    parts = [
        r"(?:[^/]+/)*" if p == "**" else re.escape(p).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "/"
        for p in patterns
    ]
    expected = re.fullmatch("".join(parts), "".join(name + "/" for name in names)) is not None
    assert matches("/".join(patterns), "/".join(names)) is expected


def test_rules_that_would_leave_everything_out_are_refused(data: Path) -> None:
    for project, pattern in (
        ("/", ""),
        (str(Path.home()), ""),
        ("", "**"),
        ("", "*"),
        ("", "a\tb"),
        ("", "x" * 2000),
    ):
        with pytest.raises(InputError):
            ignoring.add(data, [project] if project else [], [pattern] if pattern else [])
    assert read_rules(str(data)).paths == DEFAULT_PATHS


def test_a_rule_that_is_not_there_cannot_be_removed(data: Path) -> None:
    with pytest.raises(InputError, match="no such pattern"):
        ignoring.remove(data, [], ["*.none"])
    with pytest.raises(InputError, match="not ignored"):
        ignoring.remove(data, ["/none"], [])


def test_the_command_adds_shows_checks_and_removes(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(data))

    def said(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main(["ignore", *words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    assert said("add", "--path", "*.tide", "--project", "/diary")[1]["paths"] == ["**/*.tide"]
    assert said("check", "/x/a.tide") == (0, {"path": "/x/a.tide", "project": "", "pattern": "**/*.tide"})
    assert said("check", "/diary/x")[1]["project"] == "/diary"
    assert said("check", "/x/a.txt")[0] == 1
    assert said("remove", "--path", "*.tide", "--project", "/diary")[1]["projects"] == []
    assert main(["ignore", "add"]) == 2
    assert (data / "ignore").stat().st_mode & 0o777 == 0o600
