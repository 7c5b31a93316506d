"""The data folder: made once, recognised for ever, refused when it is not ours (FORMAT.md section 1)."""

import errno
import os
import sys
import time

from session_mgmt_mcp.core.errors import DataFolderError, FormatTooNewError
from session_mgmt_mcp.core.log.durable import sha256, sync_folder, write_new
from session_mgmt_mcp.core.log.frame import FORMAT_PREFIX, FORMAT_VERSION

FOLDERS = ("journal", "segments", "manifest", "quarantine", "spool", "views")
# What may lie in a folder before FORMAT.json does: leftovers of an interrupted creation.
_LEFTOVERS = frozenset((*FOLDERS, "append.lock", "maintenance.lock", "tail.shm"))


def _is_leftover(name: str) -> bool:
    return name in _LEFTOVERS or (name.startswith("FORMAT.") and name.endswith(".tmp"))


NETWORK_FILE_SYSTEMS = (
    "9p afs afpfs beegfs ceph cifs davfs fuse.ceph fuse.davfs fuse.gcsfuse fuse.glusterfs fuse.rclone fuse.s3fs "
    "fuse.sshfs glusterfs gpfs lustre ncpfs nfs nfs3 nfs4 smb smb2 smb3 smbfs webdav"
)


def create_or_refuse(path: str) -> None:
    """Make `path` a data folder, finish an interrupted creation, or refuse it unchanged (DataFolderError)."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise DataFolderError(
            f"cannot use {path} as data folder: {error.strerror}; set SESSION_MGMT_DATA_DIR"
        ) from error
    if "FORMAT.json" in names:
        read_log_id(path)
        return
    foreign = sorted(n for n in names if not _is_leftover(n))
    if foreign or any(_has_files(f"{path}/{n}") for n in FOLDERS):
        if os.path.exists(f"{path}/FORMAT.json"):  # somebody else was just creating it
            read_log_id(path)
            return
        raise _foreign(path, foreign)
    refuse_network(path)
    try:
        _create(path)
    except OSError as error:
        raise DataFolderError(
            f"cannot create the data folder {path}: {error.strerror}; set SESSION_MGMT_DATA_DIR"
        ) from error


def _foreign(path: str, names: "list[str]") -> DataFolderError:
    shown = ", ".join(names[:3]) or "a log without its FORMAT.json"
    return DataFolderError(
        f"{path} holds {shown}: not a data folder of this program, left as it is; "
        "set SESSION_MGMT_DATA_DIR to an empty or new folder, or restore FORMAT.json from a backup"
    )


def _has_files(path: str) -> bool:
    return os.path.isdir(path) and bool(os.listdir(path))


class Format:
    """What FORMAT.json says of a log."""

    __slots__ = ("created_at", "log_id", "origin")

    def __init__(self, log_id: str, origin: str, created_at: int) -> None:
        self.log_id = log_id  # 32 hex digits
        self.origin = origin  # the log whose first chain this one continues: itself, unless it was forked
        self.created_at = created_at  # µs since the epoch


def format_line(found: Format) -> bytes:
    """The one line of FORMAT.json."""
    line = FORMAT_PREFIX + f'"log_id": "{found.log_id}", "created_at": {found.created_at}'.encode()
    if found.origin != found.log_id:
        line += f', "origin": "{found.origin}"'.encode()
    return line + b', "sha256": "' + sha256(line).digest().hex().encode() + b'"}\n'


def _create(path: str) -> None:
    os.makedirs(path, 0o700, exist_ok=True)
    os.chmod(path, 0o700)  # it may have been there, empty and open to others
    for name in FOLDERS:
        os.makedirs(f"{path}/{name}", 0o700, exist_ok=True)
    log_id = os.urandom(16).hex()
    temporary = f"{path}/FORMAT.{os.urandom(4).hex()}.tmp"
    write_new(temporary, format_line(Format(log_id, log_id, time.time_ns() // 1000)))
    sync_folder(path)  # whoever sees FORMAT.json finds the folders, after a power cut too
    try:
        os.link(temporary, f"{path}/FORMAT.json")  # put if absent: of two creators one wins
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
    sync_names(path)


def sync_names(path: str) -> None:
    """Make FORMAT.json and the folder's own name durable, up to the root: who made them may have died before.

    Raises OSError; folders above that may not be read, or are on a read-only file system, are left out.
    """
    sync_folder(path)
    at = os.path.abspath(path)
    while at != os.path.dirname(at):
        at = os.path.dirname(at)
        try:
            sync_folder(at)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL):
                raise


def read_log_id(path: str) -> str:
    """The log's id (32 hex digits) from FORMAT.json. Raises DataFolderError, FormatTooNewError."""
    return read_format(path).log_id


def read_format(path: str) -> Format:
    """What the folder's FORMAT.json says. Raises DataFolderError, FormatTooNewError."""
    name = f"{path}/FORMAT.json"
    try:
        with open(name, "rb") as file:
            line = file.read(4096)
    except FileNotFoundError:
        if os.path.isdir(path) and os.listdir(path):
            raise _foreign(path, sorted(n for n in os.listdir(path) if not _is_leftover(n))) from None
        raise DataFolderError(
            f"{path} holds no log; `session-mgmt-mcp setup` makes one, or `import` where there is no assistant; "
            "or set SESSION_MGMT_DATA_DIR"
        ) from None
    except OSError as error:
        raise DataFolderError(f"cannot read {name}: {error.strerror}; mend its permissions") from error
    return parse_format(line, name)


def parse_format(line: bytes, name: str) -> Format:
    """What the bytes of a FORMAT.json say. Raises DataFolderError, FormatTooNewError; both name `name`."""
    import json  # not at the top: hooks import this module when they create the folder

    try:
        said = json.loads(line)
        version, log_id = int(said["version"]), str(said["log_id"])
        found = Format(log_id, str(said.get("origin", log_id)), int(said.get("created_at", 0)))
        ours = said["format"] == "session-mgmt-mcp log"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise DataFolderError(
            f"{name} is damaged or foreign; restore it from a backup or use another folder"
        ) from None
    if not ours:
        raise DataFolderError(f"{name} is of another program; set SESSION_MGMT_DATA_DIR to another folder")
    if version > FORMAT_VERSION:
        raise FormatTooNewError(
            f"{name} is in format {version}; this program reads up to {FORMAT_VERSION}: upgrade session-mgmt-mcp"
        )
    if line != format_line(found):
        raise DataFolderError(f"{name} does not match its own checksum; restore it from a backup")
    return found


def refuse_network(path: str) -> None:
    """Raise DataFolderError where `path` is on a network file system: its locks and renames do not hold."""
    kind = file_system_of(path)
    if kind and kind in NETWORK_FILE_SYSTEMS.split():
        raise DataFolderError(
            f"{path} is on a network file system ({kind}), where locks are not reliable; "
            "set SESSION_MGMT_DATA_DIR to a local folder"
        )


def file_system_of(path: str) -> str:
    """The type of the file system `path` is or would be on, "" where the system does not tell."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    real = os.path.realpath(path)
    best, kind = "", ""
    for mount, type_ in _mounts():
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, type_
    return kind


def _mounts() -> "list[tuple[str, str]]":
    if sys.platform == "darwin":
        import subprocess

        text = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False).stdout
        return parse_mac_mounts(text)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return parse_mountinfo(file.read())
    except OSError:
        return []


def parse_mountinfo(text: str) -> "list[tuple[str, str]]":
    """(mount point, type) from Linux's mountinfo; octal escapes undone."""
    out = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        if right:
            point = left.split()[4]
            for escape, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                point = point.replace(escape, char)
            out.append((point, right.split()[0]))
    return out


def parse_mac_mounts(text: str) -> "list[tuple[str, str]]":
    """(mount point, type) from the lines of macOS's mount: `X on /point (type, options)`."""
    out = []
    for line in text.splitlines():
        head, _, options = line.rpartition(" (")
        _, _, point = head.partition(" on ")
        if point and options:
            out.append((point, options.split(",")[0].rstrip(")").strip()))
    return out
