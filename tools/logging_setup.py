"""The service's log: JSON lines on stderr or in a file of its own that is rotated. One process writes there.

A line never holds what was asked or answered. So of an exception in a request it has the kind and where it was raised, not the
message, which may quote it; and of the SDK's records the text before values are filled in.
"""

import json
import logging
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, Final

from session_mgmt_mcp.core.access import PRINCIPAL
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.core.errors import SessionMgmtError, SettingsError
from session_mgmt_mcp.core.requests import REQUEST

logger = logging.getLogger(__name__)

FILE_NAME: Final = "session-mgmt-mcp.log"
FIELDS: Final = ("request_id", "principal", "address", "method", "path", "status", "tool", "outcome", "ms")
_MESSAGE_CHARACTERS_MAX: Final = 2000
_FRAMES_MAX: Final = 20
_FOREIGN: Final = "mcp"  # its records may quote what a client sent


class JsonLines(logging.Formatter):
    """A record as one line of ASCII JSON: no control character and no line's end of a client's reaches the log."""

    def format(self, record: logging.LogRecord) -> str:
        """time (UTC), level, logger, message, what is known of the request, and of an exception its kind and frames."""
        whole = int(record.created)
        micro = int((record.created - whole) * 1e6)
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{micro:06}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record)[:_MESSAGE_CHARACTERS_MAX],
        }
        known = _of_request()
        known.update((name, value) for name, value in vars(record).items() if name in FIELDS)
        line.update({name: known[name] for name in FIELDS if known.get(name) is not None})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _kind(record.exc_info[1])
            line["frames"] = _frames(record.exc_info[2])
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    if _is_foreign(record.name):
        return str(record.msg)
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - values that do not fit their text are no reason to lose the line
        return str(record.msg)


def _is_foreign(name: str) -> bool:
    return name == _FOREIGN or name.startswith(_FOREIGN + ".")


def _of_request() -> dict[str, Any]:
    request, principal = REQUEST.get(), PRINCIPAL.get()
    known: dict[str, Any] = (
        {} if request is None else {"request_id": request.request_id, "address": request.address}
    )
    if principal is not None:
        known["principal"] = principal.name
    return known


def _kind(error: BaseException) -> str:
    """Its class; where no request is at hand also what the system, an import or this program says of itself."""
    name = type(error).__qualname__
    if REQUEST.get() is None and isinstance(error, (OSError, ImportError, SessionMgmtError)):
        return f"{name}: {error}"[:_MESSAGE_CHARACTERS_MAX]
    return f"{name}: {error.strerror}" if isinstance(error, OSError) and error.strerror else name


def _frames(traceback: TracebackType | None) -> list[str]:
    """`file:line function`, the innermost last."""
    out = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        out.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return out[-_FRAMES_MAX:]


class Lines(logging.Handler):
    """Writes lines to a descriptor with one call each. What cannot be written is counted, and said when it can again."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lost = 0  # lines since the last that was written
        self._torn = False  # the last write left half a line

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a full disk, or a stderr that is gone, must not stop the service."""
        try:
            line = self.format(record).encode() + b"\n"
        except Exception:  # noqa: BLE001 - whatever a value's own methods raise
            self.lost += 1
            return
        if self.lost:
            note = logging.LogRecord(
                __name__, logging.WARNING, "", 0, "%d lines were lost", (self.lost,), None
            )
            line = self.format(note).encode() + b"\n" + line
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self.descriptor(len(line)), line)
        except OSError:
            self.lost += 1
            return
        self._torn = written < len(line)
        self.lost = 1 if self._torn else 0

    def descriptor(self, length: int) -> int:
        """Where the next `length` bytes go. May raise OSError."""
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2

    def reopen(self) -> None:
        """Take up that the file was moved away."""


class LogFile(Lines):
    """`FILE_NAME` in a folder, 0600; at `bytes_max` it becomes `.1`, `.1` becomes `.2` and so on, `keep` of them."""

    def __init__(self, folder: str, bytes_max: int, keep: int) -> None:
        """Raises OSError where the folder or the file cannot be made."""
        super().__init__()
        self._fd = -1  # before what may fail: logging closes every handler at the end
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._path = os.path.join(folder, FILE_NAME)
        self._bytes_max = bytes_max
        self._keep = keep
        self._open()

    def descriptor(self, length: int) -> int:
        """The file's, after it was rotated where the line would make it too long."""
        if self._fd < 0:
            self._open()
        elif self._size + length > self._bytes_max and self._size:
            self._rotate()
        self._size += length
        return self._fd

    def reopen(self) -> None:
        """Open the file anew, as its name says now: another program may have moved it."""
        with self.lock:  # type: ignore[union-attr]  # made by Handler.__init__
            self._shut()

    def close(self) -> None:
        """No more lines; one that comes all the same opens the file again."""
        self.reopen()
        super().close()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rotate(self) -> None:
        """Move the files one on. Where that fails the present one grows: a long log is better than none."""
        try:
            if os.path.exists(self._path):  # else another program moved it away
                self._move_on()
        except OSError:
            return
        self._shut()
        self._open()

    def _move_on(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            if os.path.exists(f"{self._path}.{number}"):
                os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        if self._keep:
            os.replace(self._path, f"{self._path}.1")
        else:
            os.unlink(self._path)


class Logs:
    """The log of this process, from `start` to `close`."""

    def __init__(self, handler: Lines, level: str) -> None:
        self.handler = handler
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [handler]
        self.set_level(level)
        access = logging.getLogger(
            "uvicorn.access"
        )  # ours says the same, with the tool and without the query
        access.disabled = True
        self._thread_failed_before = threading.excepthook
        threading.excepthook = _thread_failed

    def set_level(self, level: str) -> None:
        """From now on. The SDK says what clients sent below WARNING: never that."""
        logging.getLogger().setLevel(level)
        logging.getLogger(_FOREIGN).setLevel(max(logging.getLevelNamesMapping()[level], logging.WARNING))

    def reopen(self) -> None:
        """On HUP: the file may have been moved away."""
        self.handler.reopen()

    def close(self) -> None:
        """As it was before."""
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
        threading.excepthook = self._thread_failed_before
        self.handler.close()


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """What Python would print on stderr, which may be nobody's."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        name = failed.thread.name if failed.thread is not None else "?"
        logger.critical("the thread %s ended by an error", name, exc_info=failed.exc_value)


def start(settings: ServiceSettings) -> Logs:
    """Have everything that is logged in this process go to `log_dir`'s file, or to stderr. Raises SettingsError."""
    if not settings.log_dir:
        return Logs(Lines(), settings.log_level)
    try:
        handler = LogFile(settings.log_dir, settings.log_max_mb << 20, settings.log_keep)
    except OSError as error:
        raise SettingsError(
            f"log_dir: cannot write {settings.log_dir}/{FILE_NAME}: {error.strerror}; "
            "mend its permissions, or unset SESSION_MGMT_LOG_DIR to log on stderr"
        ) from error
    return Logs(handler, settings.log_level)
