"""The whole life of the product in child processes: hooks (also while the log is locked), imports, maintenance, every kind of
command, a server with every tool.

    python product_life.py FOLDER [TEXTS.json]

FOLDER gets a home, a data folder and a working folder. TEXTS, a list of strings, are said in prompts, tool inputs and outputs,
transcripts, histories and notes. Whatever the children say is printed. Ends with an error where one of them fails.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from session_mgmt_mcp.adapters.claude_code import capture

HOOK = Path(capture.__file__).parent / "hook.py"
SESSION = "7b1c9a52-2d0e-4f61-9c38-5b7b6a1f0e01"
CHUNK = 12


class Life:
    """One home with what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.work, self.home = folder / "data", folder / "work", folder / "home"
        for made in (self.work, self.home):
            made.mkdir(parents=True, exist_ok=True)
        self.transcript = self.home / ".claude" / "projects" / "-mill" / f"{SESSION}.jsonl"
        self.transcript.parent.mkdir(parents=True, exist_ok=True)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SESSION_MGMT", "XDG_", "CLAUDE"))}
        self.env = {
            **keep,
            "HOME": str(self.home),
            "SESSION_MGMT_DATA_DIR": str(self.data),
            "SESSION_MGMT_EMBED": "off",
        }

    def run(self, command: list[str], given: bytes = b"", allowed: tuple[int, ...] = (0,)) -> bytes:
        done = subprocess.run(
            command, input=given, capture_output=True, env=self.env, cwd=self.work, check=False
        )
        sys.stdout.buffer.write(done.stdout + done.stderr)
        if done.returncode not in allowed:
            raise SystemExit(f"{command[-4:]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
        return done.stdout

    def command(self, *words: str, given: bytes = b"", allowed: tuple[int, ...] = (0,)) -> bytes:
        return self.run([sys.executable, "-P", "-m", "session_mgmt_mcp", *words], given, allowed)

    def hook(self, payload: bytes) -> None:
        self.run([sys.executable, "-I", "-S", str(HOOK)], payload)

    def serve(self, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """A server's answers to tools called one after another, and to its lists."""
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "life", "version": "1"},
        }
        asked: list[tuple[str, dict[str, Any]]] = [
            ("initialize", hello),
            ("tools/list", {}),
            ("prompts/list", {}),
        ]
        asked += [("tools/call", {"name": name, "arguments": arguments}) for name, arguments in calls]
        command = [sys.executable, "-P", "-m", "session_mgmt_mcp.server"]
        answers = []
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stdout.fileno(),
            env=self.env,
            cwd=self.work,
        ) as server:
            assert server.stdin is not None and server.stdout is not None
            for number, (method, params) in enumerate(asked):
                line = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                server.stdin.write(json.dumps(line).encode() + b"\n")
                if not number:
                    server.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
                server.stdin.flush()
                while "id" not in (answer := json.loads(server.stdout.readline())):
                    pass
                if "error" in answer or answer["result"].get("isError"):
                    raise SystemExit(f"{method} {str(params)[:200]} was answered {str(answer)[:2000]}")
                answers.append(answer)
            server.stdin.close()
            sys.stdout.buffer.write(server.stdout.read())
        return answers


def payloads(life: Life, texts: list[str]) -> list[bytes]:
    """What hooks get on stdin: every text in a prompt, a tool's input and a tool's output, written in several ways."""
    out = []
    for at in range(0, len(texts), CHUNK):
        said = "\n".join(texts[at : at + CHUNK])
        for number, fields in enumerate(
            (
                {"hook_event_name": "UserPromptSubmit", "prompt": f"look at this é\n{said}\nplease"},
                {
                    "hook_event_name": "PreToolUse",
                    "tool_name": "Bash",
                    "tool_input": {"command": said, "description": said},
                },
                {
                    "hook_event_name": "PostToolUse",
                    "tool_name": "Bash",
                    "tool_input": {"command": "env"},
                    "tool_response": {"stdout": said, "stderr": json.dumps({"nested": said})},
                },
                {
                    "hook_event_name": "PostToolUse",
                    "tool_name": "mcp__x__y",
                    "tool_input": {},
                    "tool_response": [{"type": "text", "text": json.dumps({"text": json.dumps([said])})}],
                },
                {"hook_event_name": "Stop", "last_assistant_message": said},
            )
        ):
            named = {
                "session_id": SESSION,
                "cwd": str(life.work),
                "transcript_path": str(life.transcript),
                **fields,
            }
            text = json.dumps(named, ensure_ascii=bool(number % 2))
            if number == 2:
                text = text.replace("/", "\\/")
            if number == 3:
                text = text.replace("k", "\\u006b").replace("_", "\\u005F").replace("=", "\\u003d")
            out.append(text.encode())
    return out


def records(life: Life, texts: list[str]) -> list[bytes]:
    """The same texts as a transcript has them."""
    out = []
    for at in range(0, len(texts), CHUNK):
        said = "\n".join(texts[at : at + CHUNK])
        call = f"toolu_{at:04d}"
        for role, content, more in (
            ("user", f"a prompt\n{said}", {}),
            ("assistant", [{"type": "thinking", "thinking": said}, {"type": "text", "text": said}], {}),
            (
                "assistant",
                [
                    {
                        "type": "tool_use",
                        "id": call,
                        "name": "Write",
                        "input": {"file_path": "/mill/notes.txt", "content": said},
                    }
                ],
                {},
            ),
            (
                "user",
                [{"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": said}]}],
                {
                    "toolUseResult": {
                        "filePath": "/mill/notes.txt",
                        "content": said,
                        "originalFile": f"{said}\n" * 40,
                    }
                },
            ),
        ):
            record = {
                "type": role,
                "uuid": str(uuid.uuid4()),
                "sessionId": SESSION,
                "cwd": str(life.work),
                "timestamp": "2026-03-02T10:00:00Z",
                "message": {"role": role, "content": content},
                **more,
            }
            out.append(json.dumps(record).encode())
    return out


def fitting(texts: list[str], size: int) -> list[str]:
    """The texts, whole ones only, in as few lots of at most so many characters as their order allows."""
    lots = [""]
    for text in texts:
        if len(lots[-1]) + len(text) + 1 > size:
            lots.append("")
        if len(text) < size:
            lots[-1] += f"{text}\n"
    return [lot for lot in lots if lot]


def adopt_orphans() -> None:
    """Let the maintenance that hooks start become ours once they end, so that it can be waited for (Linux)."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def wait_for_all() -> None:
    """Wait until no process of ours is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def main() -> None:
    adopt_orphans()
    life = Life(Path(sys.argv[1]))
    texts = (
        json.loads(Path(sys.argv[2]).read_text())
        if len(sys.argv) > 2
        else ["the mill wheel turns", "wheel.py: 3"]
    )
    start = {"session_id": SESSION, "cwd": str(life.work), "transcript_path": str(life.transcript)}
    life.hook(json.dumps({**start, "hook_event_name": "SessionStart", "source": "startup"}).encode())
    for payload in payloads(life, texts):
        life.hook(payload)
    with open(life.data / "append.lock", "a") as lock:  # what cannot be appended is spooled
        fcntl.flock(lock, fcntl.LOCK_EX)
        life.hook(payloads(life, texts)[0])
    life.transcript.write_bytes(b"\n".join(records(life, texts)) + b"\n")
    life.hook(json.dumps({**start, "hook_event_name": "PreCompact", "trigger": "auto"}).encode())
    life.command("maintain", "--once")
    entries = [
        json.dumps(
            {
                "session": "g1",
                "record": n,
                "actor": "user",
                "text": text,
                "edit": text,
                "title": text if len(text) < 200 else "long",
            }
        ).encode()
        for n, text in enumerate(texts)
    ]
    life.command("import", "-", given=b"\n".join(entries))
    life.command("import", str(life.transcript))
    for said in fitting(texts, 12_000):
        life.command("remember", said, "--tag", "decision")
    for said in fitting(texts, 1900)[:2]:
        life.command("checkpoint", "--session", SESSION, "--note", said)
    reasons = [
        ("permissions", {"action": "grant", "operation": "git push", "reason": s})
        for s in fitting(texts, 280)
    ]
    notes = [("checkpoint", {"session": SESSION, "note": said}) for said in fitting(texts, 1900)]
    life.serve(
        *(("remember", {"text": said, "tags": ["pitfall"]}) for said in fitting(texts, 3900)),
        *notes,
        *reasons,
        ("start", {}),
        ("status", {}),
        ("search", {"query": "wheel"}),
        ("timeline", {"session": SESSION}),
        ("audit", {}),
        ("end", {"session": SESSION, "note": fitting(texts, 1900)[-1]}),
    )
    life.command(
        "permissions", "grant", "edit", "--reason", fitting(texts, 280)[-1].strip().replace("\n", " ")
    )
    life.hook(json.dumps({**start, "hook_event_name": "SessionEnd", "reason": "exit"}).encode())
    life.command("forget", "2", "--yes", "--reason", fitting(texts, 1500)[0])
    life.command("maintain", "--once")
    for words in (
        ("search", "wheel"),
        ("sessions",),
        ("stats",),
        ("timeline",),
        ("brief",),
        ("show", SESSION),
    ):
        life.command(*words, allowed=(0, 1))
    for words in (
        ("audit", "log"),
        ("audit", "verify"),
        ("status",),
        ("doctor",),
        ("replay",),
        ("projects",),
        ("ignore",),
    ):
        life.command(*words, allowed=(0, 1))
    life.command("export", SESSION, "--to", str(life.folder / "session.md"))
    life.command("embed", "--limit", "40", allowed=(0, 1))
    life.command("search", "what turns the wheel", allowed=(0, 1))
    life.command("backup", str(life.folder / "backup"))
    life.hook(json.dumps({**start, "hook_event_name": "SessionStart", "source": "compact"}).encode())
    wait_for_all()


if __name__ == "__main__":
    main()
