"""API keys: `access.json` in the data folder, read and written.

A key is `smk_<id>_<secret>` with a secret of 256 random bits, of which the file holds the SHA-256: a slow hash protects
guessable passwords, and this cannot be guessed. The file is no part of the log, so no backup carries credentials. It is
written new and renamed under a lock, and read again when it changed; what cannot be read lets nobody in.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from session_mgmt_mcp.core.access import ADMIN_TOOLS, METRICS, Principal, Role, tools_of
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import InputError, SettingsError
from session_mgmt_mcp.core.log.durable import sync_folder, write_new

FILE: Final = "access.json"
LOCK: Final = "access.lock"
PREFIX: Final = "smk"
NAME_CHARS_MAX: Final = 64
KEYS_MAX: Final = 10_000
FILE_BYTES_MAX: Final = 16 << 20
_VERSION: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
# who stands for no person in the log
# actors of the log, and whoever holds the key of `admin_key_file`
_NOBODY: Final = frozenset(("user", "assistant", "tool", "system", "unknown", "agent", "admin"))
KEY: Final = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([0-9a-f]{{64}})")


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as the file holds it. Times in µs since the epoch, 0 never."""

    id: str
    name: str
    role: Role
    sha256: str  # of the secret, hex
    created_at: int
    scopes: tuple[str, ...] = ()
    projects: tuple[str, ...] | None = None  # None: all projects
    expires_at: int = 0
    revoked_at: int = 0

    def state(self, now: int) -> str:
        """valid, expired or revoked."""
        if self.revoked_at:
            return "revoked"
        return "expired" if 0 < self.expires_at <= now else "valid"

    def principal(self) -> Principal:
        """Whoever shows it."""
        tools = tools_of(self.role, self.scopes, self.projects)
        return Principal(self.name, self.role, self.id, tools, self.projects)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[StoredKey, ...]


class Wanted(NamedTuple):
    """A key to be made."""

    name: str
    role: Role
    scopes: tuple[str, ...] = ()
    projects: tuple[str, ...] | None = None
    expires_at: int = 0


class NewKey(NamedTuple):
    """A key that was made, with the text its user needs; nobody can show it again."""

    stored: StoredKey
    text: str


# -- the file --------------------------------------------------------------------------------------------------------


def read_keys(folder: Path | str) -> tuple[StoredKey, ...]:
    """All keys, revoked ones too, in the order they were made; none where there is no file. Raises SettingsError."""
    path = f"{folder}/{FILE}"
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}; mend its permissions (0600)"
        ) from error
    try:
        said = msgspec.json.decode(raw, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        mend = "restore the file, or move it away and make the keys anew with `session-mgmt-mcp keys create`"
        raise SettingsError(f"{path} is malformed ({error}), so no key is accepted; {mend}") from None
    if said.version != _VERSION:
        raise SettingsError(
            f"{path} was written by a newer version ({said.version}); update session-mgmt-mcp"
        )
    if len({key.id for key in said.keys}) != len(said.keys):
        raise SettingsError(f"{path} names a key twice, so no key is accepted; take one of them out")
    return said.keys


def _write(folder: Path | str, keys: Sequence[StoredKey]) -> None:
    path = f"{folder}/{FILE}"
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        write_new(temporary, msgspec.json.format(msgspec.json.encode(_File(_VERSION, tuple(keys)))) + b"\n")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(str(folder))


@contextlib.contextmanager
def locked(folder: Path | str) -> Iterator[None]:
    """Nobody else changes the file meanwhile."""
    fd = os.open(f"{folder}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


# -- making and revoking ---------------------------------------------------------------------------------------------


def check(wanted: Wanted, now: int) -> Wanted:
    """The same with folders as rows name them. Raises InputError."""
    name = wanted.name
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        raise InputError(
            f"{name!r} is no user's name: up to {NAME_CHARS_MAX} letters, digits and . _ @ -, a letter or digit first"
        )
    if name.lower() in _NOBODY:
        raise InputError(f"{name!r} stands for somebody else in the log; give the user's own name")
    unknown = [scope for scope in wanted.scopes if scope not in ADMIN_TOOLS and scope != METRICS]
    if unknown:
        known = ", ".join(sorted((*ADMIN_TOOLS, METRICS)))
        raise InputError(f"no scope {unknown[0]!r}; there are {known}")
    beyond = [scope for scope in wanted.scopes if scope not in tools_of(wanted.role, wanted.scopes)]
    if beyond:
        raise InputError(f"a {wanted.role.value} may not {beyond[0]}: scopes narrow a role, never widen it")
    if 0 < wanted.expires_at <= now:
        raise InputError("the key would have expired already; give a time that lies ahead")
    if wanted.projects is None:
        return wanted
    if not wanted.projects:
        raise InputError("which projects? Give --project for each, or --all-projects")
    return wanted._replace(projects=tuple(dict.fromkeys(map(_folder, wanted.projects))))


def _folder(named: str) -> str:
    """A folder without a slash at its end. Raises InputError where rows could never be told to lie below it."""
    folder = named.rstrip("/\\")
    absolute = named.startswith("/") or re.match(r"[A-Za-z]:[/\\]|\\\\", named)
    if not absolute or {".", ".."} & set(re.split(r"[/\\]", folder)):
        raise InputError(f"{named!r} is no absolute folder without . and ..; give one as sessions record it")
    if not folder or re.fullmatch(r"[A-Za-z]:", folder):
        raise InputError(f"{named!r} holds everything; say --all-projects where that is meant")
    if "\0" in folder or not folder.isprintable():
        raise InputError(f"{named!a} holds control characters; give a folder as sessions record it")
    return folder


def create(folder: Path | str, wanted: Wanted, tell: Callable[[StoredKey], object], now: int = 0) -> NewKey:
    """Make a key. `tell` records that there is one before it opens anything. Raises InputError, SettingsError, OSError."""
    now = now or now_us()
    wanted = check(wanted, now)
    with locked(folder):
        keys = _with_room(read_keys(folder), now)
        made = _made(keys, wanted, now)
        tell(made.stored)
        _write(folder, (*keys, made.stored))
    return made


def _with_room(keys: Sequence[StoredKey], now: int) -> Sequence[StoredKey]:
    """Without the oldest that opens nothing, where there are as many as the file may hold. Raises InputError."""
    if len(keys) < KEYS_MAX:
        return keys
    useless = next((key for key in keys if key.state(now) != "valid"), None)
    if useless is None:
        raise InputError(f"there are {KEYS_MAX} keys already, all of them valid; revoke one first")
    return [key for key in keys if key is not useless]


def _made(keys: Sequence[StoredKey], wanted: Wanted, now: int) -> NewKey:
    taken = {key.id for key in keys}
    while (key_id := secrets.token_hex(6)) in taken:
        continue
    secret = secrets.token_hex(32)
    stored = StoredKey(
        id=key_id,
        name=wanted.name,
        role=wanted.role,
        sha256=digest_of(secret),
        created_at=now,
        scopes=wanted.scopes,
        projects=wanted.projects,
        expires_at=wanted.expires_at,
    )
    return NewKey(stored, f"{PREFIX}_{key_id}_{secret}")


def revoke(folder: Path | str, named: str, now: int = 0) -> tuple[StoredKey, bool]:
    """Let a key, by its id or the beginning of it, open nothing any more; False where it did not before. Raises as `create`."""
    with locked(folder):
        keys = read_keys(folder)
        found = find(keys, named)
        if found.revoked_at:
            return found, False
        gone = msgspec.structs.replace(found, revoked_at=now or now_us())
        _write(folder, [gone if key.id == gone.id else key for key in keys])
    return gone, True


def rotate(
    folder: Path | str,
    named: str,
    tell: Callable[[StoredKey, StoredKey], object],
    now: int = 0,
    overlap_us: int = 0,
) -> tuple[StoredKey, NewKey]:
    """A new key with all the old one could do, which opens nothing from now on, or after `overlap_us`.

    `tell` records the old and the new one before anything changes. The time until a key expires begins anew. Raises as
    `create`.
    """
    now = now or now_us()
    with locked(folder):
        keys = _with_room(read_keys(folder), now)
        old = find(keys, named)
        if old.state(now) != "valid":
            raise InputError(
                f"the key {old.id} is {old.state(now)}; `session-mgmt-mcp keys create` makes another"
            )
        lasts = now + (old.expires_at - old.created_at) if old.expires_at else 0
        made = _made(keys, Wanted(old.name, old.role, old.scopes, old.projects, lasts), now)
        tell(old, made.stored)
        ends = min(old.expires_at or now + overlap_us, now + overlap_us)
        ended = msgspec.structs.replace(old, **({"expires_at": ends} if overlap_us else {"revoked_at": now}))
        _write(folder, (*(ended if key.id == old.id else key for key in keys), made.stored))
    return ended, made


def find(keys: Sequence[StoredKey], named: str) -> StoredKey:
    """A key by its id, or the beginning of it. Raises InputError."""
    wanted = named.strip().lower()
    if shown := KEY.fullmatch(wanted):
        wanted = shown[1]
    found = [key for key in keys if wanted and key.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    many = f"{len(found)} keys begin with" if found else "there is no key"
    raise InputError(f"{many} {wanted[:20]!r}; `session-mgmt-mcp keys list` shows their ids")


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
