"""Input of any size and any name does no harm: memory is bounded, nothing is written outside the data folder."""

import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from product_life import Life

from session_mgmt_mcp.adapters.claude_code import capture
from session_mgmt_mcp.adapters.claude_code.importer import import_files
from session_mgmt_mcp.core import redact_rules
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.redact import redact

HOOK = Path(capture.__file__).parent / "hook.py"
EVIL = [
    "../../../outside",
    "/tmp/outside",
    "..",
    ".",
    "a/b",
    "a\x00b",
    "x" * 5000,
    "\u202e\u200b",
    "",
    "~/x",
    "$(touch outside)",
]


def run_limited(folder: Path, size: int, memory: int) -> subprocess.CompletedProcess[bytes]:
    """The hook with so many bytes on stdin, in an address space of so many."""

    limited = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory})); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [sys.executable, "-I", "-S", "-c", limited, "-I", "-S", str(HOOK), "--data-dir", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as hook:
        assert hook.stdin is not None and hook.stdout is not None and hook.stderr is not None
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(hook.stderr.read()))  # type: ignore[union-attr]
        reader.start()
        hook.stdin.write(b'{"session_id": "s", "hook_event_name": "PostToolUse", "tool_response": "')
        block = b"the mill wheel turns " * 50_000
        for _ in range(size // len(block)):
            hook.stdin.write(block)
        hook.stdin.write(b'"}')
        hook.stdin.close()
        out = hook.stdout.read()
        reader.join()
    return subprocess.CompletedProcess(command, hook.returncode, out, said[0])


def test_a_payload_of_200_mb_is_read_to_its_end_and_refused_in_little_memory(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    done = run_limited(tmp_path / "data", 200 << 20, memory=200 << 20)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"more than 32" in done.stderr
    with FileLog(tmp_path / "data") as log:
        assert log.head().position == 0


def test_a_payload_of_20_mb_is_captured(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    done = run_limited(tmp_path / "data", 20 << 20, memory=400 << 20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with FileLog(tmp_path / "data") as log:
        assert log.head().position == 1


def test_no_name_leads_out_of_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "spawn_maintenance", lambda _: 0)
    life = Life(tmp_path)
    FileLog(life.data, create=True).close()
    life.hook(
        json.dumps({"session_id": "s", "cwd": str(life.work), "hook_event_name": "UserPromptSubmit"}).encode()
    )
    for name in EVIL:
        for event in ("SessionStart", "UserPromptSubmit", "PreCompact", "Stop", "SessionEnd"):
            fields = {
                "session_id": name,
                "cwd": name,
                "transcript_path": name,
                "hook_event_name": event,
                "prompt": name,
            }
            capture.capture(str(life.data), json.dumps(fields).encode())
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(life.data)}
    life.command("maintain", "--once")
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(life.data)} == before
    assert not list(Path("/tmp").glob("outside*"))
    for path in life.data.rglob("*"):
        assert path.resolve().is_relative_to(life.data.resolve())


def test_what_is_written_is_the_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        life = Life(tmp_path)
        life.hook(
            json.dumps({"session_id": "s", "cwd": str(life.work), "hook_event_name": "PreToolUse"}).encode()
        )
        life.hook(
            json.dumps(
                {"session_id": "s", "cwd": "/x", "hook_event_name": "UserPromptSubmit", "prompt": "hi"}
            ).encode()
        )
        life.command("ignore", "add", "--path", "*.tide")
        life.command("maintain", "--once")
    finally:
        os.umask(before)
    assert stat.S_IMODE(life.data.stat().st_mode) == 0o700
    open_to_others = [
        p for p in life.data.rglob("*") if not p.is_dir() and stat.S_IMODE(p.lstat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_a_counter_that_is_a_link_is_not_followed_into_another_file(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "data" / "ignored").symlink_to(mine)
    (tmp_path / "data" / "ignore").write_text("project\t/diary\n")
    payload = {"session_id": "s", "cwd": "/diary", "hook_event_name": "UserPromptSubmit"}
    command = [sys.executable, "-I", "-S", str(HOOK), "--data-dir", str(tmp_path / "data")]
    subprocess.run(command, input=json.dumps(payload).encode(), check=True)
    assert mine.read_text() == "mine"


def test_a_line_longer_than_32_mib_is_named_and_the_next_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    kept = json.dumps(
        {"type": "user", "uuid": "u1", "sessionId": "s", "message": {"role": "user", "content": "hi"}}
    )
    with path.open("wb") as file:
        file.write(b'{"type": "user", "text": "' + b"x" * (33 << 20) + b'"}\n' + kept.encode() + b"\n")
    with FileLog(tmp_path / "data", create=True) as log:
        report = import_files([path], log, redact=redact)
    assert (report.appended, report.errors) == (1, 1)


REPEATED = sorted(
    {literal for rule in redact_rules.RULES for literal in rule[1]}
    | {
        b"<private>",
        b"<private></private>",
        b"-----BEGIN PRIVATE KEY-----",
        b"-----END PRIVATE KEY-----",
        b"\\",
        b"\\u0067",
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("before", [b"", b'{"a": "'], ids=["text", "JSON"])
def test_a_literal_repeated_for_ever_costs_no_more_than_its_length(before: bytes) -> None:
    """Each of these would take very long if work grew with the square of the length."""
    for literal in REPEATED:
        for between in (b"", b"a", b"=1"):
            payload = before + (literal + between) * (30_000 // (len(literal) + len(between)))
            assert redact(payload) is not None


def _nested_repeats(pattern: bytes) -> int:
    """How many unbounded repeats stand within a repeat: what backtracking without an end is made of."""
    import re._constants as op
    import re._parser as parser

    def walk(items: object, inside: bool) -> int:
        count = 0
        for code, argument in items:  # type: ignore[attr-defined]
            if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
                _, most, body = argument
                endless = most == op.MAXREPEAT
                count += (inside and endless) + walk(body, inside or most > 100)
            elif code == op.SUBPATTERN:
                count += walk(argument[3], inside)
            elif code == op.BRANCH:
                count += sum(walk(branch, inside) for branch in argument[1])
            elif code in (op.ASSERT, op.ASSERT_NOT):
                count += walk(argument[1], inside)
        return count

    return walk(parser.parse(pattern), False)


def test_no_pattern_repeats_what_repeats_without_end() -> None:
    assert _nested_repeats(rb"(?:a+)+") == 1
    allowed = {"slack-webhook"}  # its parts begin with a slash, which the repeated bytes do not hold
    assert {rule[0] for rule in redact_rules.RULES if _nested_repeats(rule[2])} <= allowed
    assert all(re.compile(rule[2]) for rule in redact_rules.RULES)
