"""What the open journal holds of sessions since a brief was prepared: read by a hook, when maintenance has not come yet.

A session that was killed a second ago, or that ended while its successor was starting, is told of all the same.
"""

import os

from session_mgmt_mcp.adapters.claude_code.fields import string_of
from session_mgmt_mcp.adapters.claude_code.living import beginning
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.log.frame import HEADER, decode_header, entries_of, scan
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.project import identify

EVENTS_MAX = 3000  # the newest ones
JOURNALS_MAX = 2
JOURNAL_BYTES_MAX = 16 << 20
BLOCK_BYTES = 256 << 10
COMMAND_CHARS_MAX = 80
_STREAM = b"claude-code/"
_ZEROS = bytes(4096)  # no JSON holds so many


class Unread:
    """What one session did, as its hooks told it."""

    __slots__ = ("calls", "compacting", "ended", "failed", "last_at", "prompt", "reply", "session")

    def __init__(self, session: str) -> None:
        self.session = session
        self.prompt = ""  # the last one's beginning
        self.calls: dict[str, str] = {}  # tool_use_id -> what was done, in order
        self.failed: set[str] = set()
        self.reply = ""
        self.ended = False
        self.compacting = False  # its context was about to be compacted
        self.last_at = 0  # µs since the epoch

    def did(self) -> "list[str]":
        """What was changed and run, each once, the latest last."""
        done = {did + (" (failed)" if call in self.failed else ""): None for call, did in self.calls.items()}
        return list(done)


def unread(folder: str, after: int, root: str) -> "list[Unread]":
    """Sessions with events after a position in this project, the last active first. What cannot be read is left out."""
    found: dict[str, Unread] = {}
    roots: dict[str, str] = {}
    for envelope, payload in _events(folder, after):
        session = _session_of(envelope)
        if not session:
            continue
        at = string_of(payload, b"cwd")
        if at not in roots:
            roots[at] = identify(at).root if at else ""
        if roots[at] == root:
            _take_in(found.setdefault(session, Unread(session)), envelope, payload)
    return sorted(found.values(), key=lambda one: -one.last_at)


def _take_in(one: Unread, envelope: bytes, payload: bytes) -> None:
    event = string_of(payload, b"hook_event_name", 64)
    mark = envelope.find(b"\xcf")  # the first 64-bit number is when it was recorded
    one.last_at = int.from_bytes(envelope[mark + 1 : mark + 9], "big")
    if event == "UserPromptSubmit":
        one.prompt, one.reply = beginning(string_of(payload, b"prompt", 640)), ""
    elif event in ("PreToolUse", "PostToolUse", "PostToolUseFailure"):
        call = string_of(payload, b"tool_use_id", 128)
        if did := _did(payload):
            one.calls[call] = did
        if event == "PostToolUseFailure":
            one.failed.add(call)
    elif event == "Stop":
        one.reply = beginning(string_of(payload, b"last_assistant_message", 640))
    one.compacting = one.compacting or event == "PreCompact"
    one.ended = event == "SessionEnd" or (one.ended and event != "SessionStart")


def _did(payload: bytes) -> str:
    """What a call changed or ran; "" for what only looks."""
    tool = string_of(payload, b"tool_name", 64)
    if tool in ("Edit", "Write", "MultiEdit", "NotebookEdit"):
        path = string_of(payload, b"file_path") or string_of(payload, b"notebook_path")
        return f"edited {beginning(path.rpartition('/')[2], COMMAND_CHARS_MAX)}" if path else ""
    if tool == "Bash":
        command = beginning(string_of(payload, b"command", 4 * COMMAND_CHARS_MAX), COMMAND_CHARS_MAX)
        return f"ran `{command}`" if command else ""
    return ""


def _session_of(envelope: bytes) -> str:
    """Of an event a hook reported; "" for others. The stream is the first field, text of up to 65,535 bytes."""
    at = envelope.find(_STREAM, 0, 8 + len(_STREAM))
    if at < 2 or b"HookReported" not in envelope:
        return ""
    kind = envelope[1]
    length = envelope[1] & 31 if kind >> 5 == 5 else int.from_bytes(envelope[2:at], "big")
    return envelope[at + len(_STREAM) : at + length].decode("utf-8", "replace")


def _events(folder: str, after: int) -> "list[tuple[bytes, bytes]]":
    """Envelopes and payloads of the journals' events after a position, in order."""
    out: list[tuple[bytes, bytes]] = []
    try:
        journals = list_journals(folder)
        ends = [first for first, _ in journals[1:]]  # the last one has none
        wanted = [path for n, (_, path) in enumerate(journals) if n == len(ends) or ends[n] > after + 1]
        for path in wanted[-JOURNALS_MAX:]:
            out += _events_in(path, after)
    except (OSError, SessionMgmtError):
        pass  # sealed meanwhile, or to be mended by others
    return out[-EVENTS_MAX:]


def _events_in(path: str, after: int) -> "list[tuple[bytes, bytes]]":
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = decode_header(os.pread(fd, HEADER.size, 0), path)
        data = memoryview(_written(fd, HEADER.size))
    finally:
        os.close(fd)
    frames = [f for f in scan(data, HEADER.size, header, header.first) if f.first + f.count > after + 1]
    out = []
    for frame in frames[-EVENTS_MAX:]:
        entries = entries_of(frame, data, HEADER.size)
        out += [entry[2:4] for entry in entries[max(0, after + 1 - frame.first) :]]
    return out


def _written(fd: int, at: int) -> bytes:
    """What stands in a journal from an offset on, without most of the zeros it was given its blocks with."""
    blocks = []
    while at < JOURNAL_BYTES_MAX:
        block = os.pread(fd, BLOCK_BYTES, at)
        blocks.append(block)
        at += len(block)
        if len(block) < BLOCK_BYTES or block.endswith(_ZEROS):
            break
    return b"".join(blocks)
