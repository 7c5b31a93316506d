"""What a hook does: append its payload to the log, durably, and get out of the way. Never fails; only the start of a
session is answered, with a brief that was prepared beforehand.

No JSON is parsed here: the two fields the envelope needs are found by their names, everything else is interpreted later
from the payload. Light imports only; `python -I -S` has no site-packages.
"""

import sys
import time

from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.durable import environb, os
from session_mgmt_mcp.core.log.frame import BLOB_BYTES_MIN
from session_mgmt_mcp.core.redact import redact

LOCK_TIMEOUT_S = 0.25
# one of these is in every payload that names a file which is ignored by default (`core.ignore`)
IGNORED_HINTS = tuple(b".env .netrc .pgpass .git-cred .aws .docker .kube .ssh .pem .key .p12 \\u00".split())
PAYLOAD_BYTES_MAX = 32 << 20  # as of an imported line; redaction takes some times that
_ACTORS = {
    b"UserPromptSubmit": "user",
    b"PreToolUse": "assistant",
    b"PostToolUse": "tool",
    b"PostToolUseFailure": "tool",
    b"Stop": "assistant",
    b"SubagentStop": "assistant",
}
# After these maintenance is due: the brief of the next session, or of this one once it is compacted, is to be up to date.
_MAINTAINED = (b"SessionStart", b"SessionEnd", b"PreCompact")
_TURNS = (
    b"SessionStart",
    b"UserPromptSubmit",
    b"Stop",
    b"PreCompact",
)  # noted in the session's live file; tool calls are not
STOP_PAUSE_S = 60  # at the end of a turn maintenance starts at most so often, or less where it takes long
MAINTAINED = (
    "/views/maintained"  # its time is when a pass of maintenance last began; it may hold a longer pause, in s
)


def main(arguments: "list[str]") -> None:
    """Capture what stands on stdin. Whatever goes wrong is one line on stderr."""
    try:
        folder = arguments[1] if arguments[:1] == ["--data-dir"] else _data_folder()
        if os.access(folder + "/paused", os.F_OK):
            return
        payload = _read_stdin()
        if os.access(folder + "/ignore", os.F_OK) or any(hint in payload for hint in IGNORED_HINTS):
            from session_mgmt_mcp.adapters.claude_code.ignoring import without_ignored

            payload = without_ignored(folder, payload)
        if payload.strip():
            try:
                capture(folder, payload)
            finally:
                _answer(folder, payload)
    except Exception as error:  # noqa: BLE001  # a hook never fails the assistant
        print(f"session-mgmt-mcp: this event was not captured: {error}", file=sys.stderr)


def _data_folder() -> str:
    """`core.settings.data_folder`, without what that imports where the environment says it plainly. Raises as that does."""
    named = environb.get(b"SESSION_MGMT_DATA_DIR")
    home = environb.get(b"HOME", b"") + b"/.local/share"
    path = named or (environb.get(b"XDG_DATA_HOME") or home) + b"/session-mgmt-mcp"
    parts = path.split(b"/")
    if parts[0] or any(part in (b"", b".", b"..") for part in parts[1:]) or not path.isascii():
        from session_mgmt_mcp.core.settings import data_folder

        return data_folder()
    return str(path, "ascii")


def capture(folder: str, raw: bytes) -> None:
    """Append one hook payload; spool it where the log cannot take it.

    Raises DataFolderError for a folder that is not this program's (nothing is written), OSError where spooling fails.
    """
    event_name = _string_after(raw, b'"hook_event_name"')
    now = time.time_ns() // 1000
    event_id, envelope, payload = _uuid7(now), _envelope(raw, event_name, now), redact(raw)
    if event_name in _TURNS:
        from session_mgmt_mcp.adapters.claude_code.living import note

        # before the append: whoever then forgets the event finds this copy of the prompt's beginning
        note(folder, event_name, _session(raw), payload)
    appender = Appender(folder)
    try:
        if len(payload) < BLOB_BYTES_MIN:
            appender.append([(event_id, envelope, payload)], timeout_s=LOCK_TIMEOUT_S)
        else:
            _append_large(appender, event_id, envelope, payload)
    except Exception as error:
        from session_mgmt_mcp.core.errors import DataFolderError

        if isinstance(error, DataFolderError):
            raise
        _spool(folder, event_id, envelope, payload, error)
    if event_name == b"SessionEnd":
        from session_mgmt_mcp.core import live

        live.remove(folder, _session(raw))
    if appender.rolled or event_name in _MAINTAINED or (event_name == b"Stop" and _is_due(folder)):
        try:
            spawn_maintenance(folder)
        except OSError as error:  # the next start or end of a session tries again
            print(f"session-mgmt-mcp: captured, but maintenance did not start: {error}", file=sys.stderr)


def _answer(folder: str, raw: bytes) -> None:
    """Tell a session that starts what it needs to know."""
    if _string_after(raw, b'"hook_event_name"') != b"SessionStart":
        return
    from session_mgmt_mcp.adapters.claude_code.brief_hook import answer

    try:
        text = answer(folder, raw)
        while text:
            text = text[os.write(1, text) :]
    except Exception as error:  # noqa: BLE001  # a hook never fails the assistant
        print(f"session-mgmt-mcp: the session starts without a brief: {error}", file=sys.stderr)


def _is_due(folder: str) -> bool:
    """Whether maintenance last began a while ago."""
    try:
        fd = os.open(folder + MAINTAINED, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    began, pause = os.fstat(fd).st_mtime, os.read(fd, 8)
    os.close(fd)
    return time.time() - began > (int(pause) if pause.isdigit() else STOP_PAUSE_S)


def _append_large(appender: Appender, event_id: bytes, envelope: bytes, payload: bytes) -> None:
    """Append a payload whose blobs are stored once, before it and in the same frame."""
    from session_mgmt_mcp.core import blobs
    from session_mgmt_mcp.core.log.probe import forgotten, probe

    rest, found = blobs.split(payload, lambda ids: forgotten(appender.folder, ids))
    about = _envelope_bytes(blobs.STREAM, blobs.EVENT_TYPE, time.time_ns() // 1000, "system")
    entries = [(blob_id, about, content) for blob_id, content in found]
    appender.append(
        [*entries, (event_id, envelope, rest)],
        (lambda app, _: probe(app, [e[0] for e in entries])) if entries else None,
        timeout_s=LOCK_TIMEOUT_S,
    )


def _read_stdin() -> bytes:
    """What stands on stdin, read to its end whatever its size: who writes it is not to meet a closed pipe.

    Raises OverflowError past PAYLOAD_BYTES_MAX, with no more than that in memory.
    """
    parts = []
    size = 0
    while block := os.read(0, 1 << 20):
        size += len(block)
        if size <= PAYLOAD_BYTES_MAX:
            parts.append(block)
        else:
            parts.clear()
    if size > PAYLOAD_BYTES_MAX:
        raise OverflowError(f"it has {size >> 20} MiB, more than {PAYLOAD_BYTES_MAX >> 20}")
    return b"".join(parts)


def _string_after(raw: bytes, name: bytes) -> bytes:
    """The JSON string that follows the first `name` and a colon; b"" if there is none."""
    at = raw.find(name)
    rest = raw[at + len(name) : at + len(name) + 256].lstrip() if at >= 0 else b""
    if not rest.startswith(b":"):
        return b""
    rest = rest[1:].lstrip()
    return rest[1 : rest.find(b'"', 1)] if rest.startswith(b'"') else b""


def _envelope(raw: bytes, event_name: bytes, now: int) -> bytes:
    """MessagePack by hand: the envelope of FORMAT.md section 2."""
    return _envelope_bytes(
        f"claude-code/{_session(raw)}", "HookReported", now, _ACTORS.get(event_name, "system")
    )


def _session(raw: bytes) -> str:
    return _string_after(raw, b'"session_id"').decode("utf-8", "replace") or "unknown"


def _envelope_bytes(stream: str, event_type: str, now: int, actor: str) -> bytes:
    moment = b"\xcf" + now.to_bytes(8, "big")
    return b"".join(
        (
            b"\x99",
            _text(stream),
            _text(event_type),
            b"\x01",
            moment,
            moment,
            _text(actor),
            _text("hook"),
            b"\xc0\xc0",
        )
    )


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"\xda" + len(raw).to_bytes(2, "big") + raw


def _uuid7(now: int) -> bytes:
    r = os.urandom(10)
    return (now // 1000).to_bytes(6, "big") + bytes((0x70 | r[0] & 15, r[1], 0x80 | r[2] & 63)) + r[3:]


def _spool(folder: str, event_id: bytes, envelope: bytes, payload: bytes, why: Exception) -> None:
    """Leave the event beside the log, durably; maintenance appends it under the same id."""
    from os import makedirs

    from session_mgmt_mcp.core.log.durable import sync_folder, write_new
    from session_mgmt_mcp.core.log.folder import sync_names

    path = f"{folder}/spool/{event_id.hex()}"
    try:
        makedirs(folder + "/spool", 0o700, exist_ok=True)
        write_new(path + ".tmp", len(envelope).to_bytes(4, "little") + envelope + payload)
        os.rename(path + ".tmp", path + ".event")
        sync_folder(folder + "/spool")
        sync_names(folder)  # there may be no journal yet, and who made the folder may have died
    except OSError as error:
        if os.access(path + ".tmp", os.F_OK):
            os.unlink(path + ".tmp")
        raise OSError(f"{why}; nor could it be spooled: {error.strerror}") from error


def spawn_maintenance(folder: str) -> int:
    """Start `maintain --once`, detached. Its process id."""
    return spawn(folder, "maintain", "--once")


def spawn(folder: str, *words: str) -> int:
    """Start a command on a data folder, detached: its own session, no shared descriptors, so nobody waits for it.

    Its process id. Raises OSError.
    """
    command = [sys.executable, "-P", "-m", "session_mgmt_mcp", *words]
    environment = {**environb, b"SESSION_MGMT_DATA_DIR": folder.encode("utf-8", "surrogateescape")}
    quiet = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
    ]
    try:
        return os.posix_spawn(command[0], command, environment, file_actions=quiet, setsid=True)
    except NotImplementedError:  # older macOS: a process group of its own has to do
        return os.posix_spawn(command[0], command, environment, file_actions=quiet, setpgroup=0)
