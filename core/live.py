"""Sessions at work now: a small file each in `views/live`, written by hooks, gone at the session's end.

They tell a new session what the others in its project are doing, a server which session its client is in, and maintenance
which sessions ended without saying so. A file is lines of a name and a value; its time of change is when the session was
last heard of. Derived, never synced, and removed by any forgetting: a lost one is written anew at the session's next turn.
Imported by hooks: kept light.
"""

from session_mgmt_mcp.core.log.durable import boot_id, os, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT_CHARS_MAX = 160
FILE_BYTES_MAX = 64 << 10
FILES_MAX = 1000  # looked at; more are of sessions nobody closed
ANCESTORS_MAX = 12
# They only start the next program: the assistant runs a hook as `sh -c …`, a server perhaps by a launcher.
_SHELLS = frozenset(
    b"ash bash busybox catatonit dash docker-init dumb-init env fish init ksh mksh nice sh systemd timeout tini zsh".split()
)
_FOLDER = "/views/live"


class Process:
    """A process that can be told from a later one with the same number. `pid` 0: not known."""

    __slots__ = ("boot", "born", "pid", "space")

    def __init__(self, pid: int = 0, born: int = 0, boot: str = "", space: str = "") -> None:
        self.pid = pid
        self.born = born  # clock ticks after the boot
        self.boot = boot  # hex
        self.space = space  # the PID namespace: elsewhere the numbers mean other processes


class Live:
    """What a session's live file says. Times are µs since the epoch, 0 where unknown."""

    __slots__ = (
        "active_at",
        "compacting_at",
        "folder",
        "process",
        "prompt",
        "prompted_at",
        "root",
        "session",
        "started_at",
    )

    def __init__(self, session: str) -> None:
        self.session = session
        self.folder = ""  # working folder
        self.root = ""  # its project (core.project)
        self.process = Process()
        self.started_at = 0
        self.active_at = 0
        self.prompt = ""  # the beginning of the last one, redacted, on one line
        self.prompted_at = 0
        self.compacting_at = 0  # when its context was last about to be compacted


def path_of(folder: str, session: str) -> str:
    """The live file of a session; `folder`: the data folder. Any text may be a session's id."""
    name = sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{folder}{_FOLDER}/{name}"


def write(folder: str, live: Live) -> None:
    """Publish the file of a session. Raises OSError; makes no data folder where there is none."""
    path = path_of(folder, live.session)
    process = live.process
    lines = [
        f"session {live.session}",
        f"folder {live.folder}",
        f"root {live.root}",
        f"process {process.pid} {process.born} {process.boot or '-'} {process.space or '-'}",
        f"started {live.started_at}",
        f"prompted {live.prompted_at}",
        f"compacting {live.compacting_at}",
        f"prompt {live.prompt}",
    ]
    raw = "\n".join(one_line(line) for line in lines).encode("utf-8", "surrogateescape")
    temporary = f"{path}.{os.getpid()}.tmp"
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(temporary, flags, 0o600)
    except FileNotFoundError:
        os.mkdir(folder + _FOLDER, 0o700)  # in a data folder that is there
        fd = os.open(temporary, flags, 0o600)
    try:
        written = os.write(fd, raw)
    except OSError:
        written = 0
    os.close(fd)
    if written < len(raw):
        os.unlink(temporary)
        raise OSError(f"{path} could not be written whole")
    os.rename(temporary, path)


def read(folder: str, session: str) -> "Live | None":
    """What the session's file says, None where it has none."""
    return _load(path_of(folder, session))


def read_all(folder: str) -> "list[Live]":
    """All sessions that have a file, the last active first. What cannot be read is left out."""
    base = folder + _FOLDER
    try:
        names = [name for name in os.listdir(base) if "." not in name]
    except OSError:
        return []
    found = [live for name in names[:FILES_MAX] if (live := _load(f"{base}/{name}")) is not None]
    found.sort(key=lambda live: -live.active_at)
    return found


def remove(folder: str, session: str) -> None:
    """The session is at its end."""
    try:  # noqa: SIM105  # contextlib would cost a hook more than all of this file
        os.unlink(path_of(folder, session))
    except OSError:
        pass


def clear(folder: str) -> "list[str]":
    """Remove all files, since they hold beginnings of prompts; their names, relative to the data folder."""
    removed = []
    for name in _names(folder + _FOLDER):
        try:
            os.unlink(f"{folder}{_FOLDER}/{name}")
        except OSError:
            continue
        removed.append(f"{_FOLDER[1:]}/{name}")
    return removed


def is_alive(process: Process) -> "bool | None":
    """Whether a process still runs; None where that cannot be told from here."""
    if not process.pid or not process.boot:
        return None
    if process.boot != boot_id().hex():
        return False  # the machine was started again since
    if process.space != _space():
        return None
    now = _stat(process.pid)
    if now is None:
        return False if _has_proc() else None
    return now[1] == process.born and now[3] not in (b"Z", b"X")


def assistant_process(pid: int = 0) -> Process:
    """The nearest ancestor that is more than a shell or a launcher; `pid`: where to begin, default the parent."""
    for number, born, name, _ in _ancestors(pid or os.getppid()):
        if name not in _SHELLS:
            return Process(number, born, boot_id().hex(), _space())
    return Process()


def session_of_process(folder: str, pid: int) -> "str | None":
    """The session whose assistant is this process, or the nearest of its ancestors that is in one.

    Of several sessions of one process (it was cleared, another was picked up) the last active one. None: not known.
    """
    boot, space = boot_id().hex(), _space()
    here = [live for live in read_all(folder) if (live.process.boot, live.process.space) == (boot, space)]
    if not here:
        return None
    for number, born, _, _ in _ancestors(pid):
        for live in here:
            if (live.process.pid, live.process.born) == (number, born):
                return live.session
    return None


def one_line(text: str) -> str:
    """Without line breaks and control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


def _load(path: str) -> "Live | None":
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        changed_at = os.fstat(fd).st_mtime_ns // 1000
        raw = os.read(fd, FILE_BYTES_MAX)
    except OSError:
        return None
    finally:
        os.close(fd)
    said: dict[str, str] = {}
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition(" ")
        said[name] = value
    if not said.get("session"):
        return None
    live = Live(said["session"])
    live.folder, live.root, live.prompt = said.get("folder", ""), said.get("root", ""), said.get("prompt", "")
    live.started_at, live.prompted_at = _number(said.get("started")), _number(said.get("prompted"))
    live.compacting_at, live.active_at = _number(said.get("compacting")), changed_at
    process = said.get("process", "").split(" ")
    if len(process) == 4:
        live.process = Process(_number(process[0]), _number(process[1]), process[2], process[3])
    return live


def _number(text: "str | None") -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else 0


def _names(base: str) -> "list[str]":
    try:
        return os.listdir(base)
    except OSError:
        return []


def _has_proc() -> bool:
    return os.access("/proc/self/stat", os.F_OK)


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")[5:-1] or "-"
    except OSError:
        return "-"


def _stat(pid: int) -> "tuple[int, int, bytes, bytes] | None":
    """Parent, start in clock ticks, name and state of a process; None where it is gone or there is no /proc."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = os.read(fd, 4096)
    except OSError:  # it ended in between
        return None
    finally:
        os.close(fd)
    name = raw[raw.find(b"(") + 1 : raw.rfind(b")")]
    rest = raw[raw.rfind(b")") + 2 :].split()
    return int(rest[1]), int(rest[19]), name, rest[0]


def _ancestors(pid: int) -> "Iterator[tuple[int, int, bytes, bytes]]":
    """(pid, start, name, state) of a process and those it descends from."""
    for _ in range(ANCESTORS_MAX):
        found = _stat(pid) if pid > 0 else None
        if found is None:
            return
        yield pid, found[1], found[2], found[3]
        pid = found[0]
