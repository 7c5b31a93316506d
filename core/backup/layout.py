"""What lies in a backup and under which names: its identity, snapshots, forgotten payloads (FORMAT.md)."""

import contextlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import msgspec

from session_mgmt_mcp.core.backup.store import ObjectStore, get
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import FormatTooNewError, InputError, LogCorruptError
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.manifest import SegmentEntry

VERSION = 1
IDENTITY = "BACKUP.json"
_FORMAT = "session-mgmt-mcp backup"
_SNAPSHOT = re.compile(r"snapshots/(\d{20})-(\d{20})-(\d{4})-([0-9a-f]{8})\.json")
_LEFTOVER = re.compile(r".*\.tmp")
_MEND = "use another snapshot; where this file is removed, backups to that place go on"
_TRIES = 5
T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True):
    """BACKUP.json: the log that is backed up here."""

    format: str
    version: int
    log_id: str
    origin: str
    created_at: int  # µs since the epoch


class Piece(msgspec.Struct, frozen=True):
    """The frames of one journal as they stand in it, header included; the last may end in an open journal."""

    first: int
    last: int  # first - 1 where it holds none
    chain_before: str
    chain: str
    sha256: str
    bytes: int


class SpoolFile(msgspec.Struct, frozen=True):
    """An event a hook could not append yet."""

    name: str
    sha256: str
    bytes: int


class Snapshot(msgspec.Struct, frozen=True):
    """The log as of one backup. Chains are hex."""

    version: int
    log_id: str
    origin: str
    format_line: str  # FORMAT.json
    position: int
    chain: str
    created_at: int  # µs since the epoch
    generation: int  # raised where a purge replaces it
    segments: tuple[SegmentEntry, ...]
    tail: tuple[Piece, ...]
    spool: tuple[SpoolFile, ...]

    @property
    def id(self) -> str:
        """How people name it: position and time (UTC)."""
        return snapshot_id(self.position, self.created_at)

    def objects(self) -> dict[str, int]:
        """SHA-256 of everything it needs, with the size in bytes; -1 for ids, whose size is not kept."""
        out = {e.sha256: e.bytes for e in self.segments} | {e.ids_sha256: -1 for e in self.segments}
        return out | {p.sha256: p.bytes for p in self.tail} | {s.sha256: s.bytes for s in self.spool}


class SnapshotName(NamedTuple):
    """A snapshot by its object's name. Ordered by position, then time, then generation."""

    position: int
    created_at: int
    generation: int
    name: str

    @property
    def id(self) -> str:
        return snapshot_id(self.position, self.created_at)


def snapshot_id(position: int, created_at: int) -> str:
    at = datetime.fromtimestamp(created_at / 1e6, UTC)
    return f"{position}-{at:%Y%m%dT%H%M%S}.{created_at % 1_000_000:06}Z"


def object_name(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


# -- identity ----------------------------------------------------------------------------------------------------


def identify(store: ObjectStore) -> Identity | None:
    """Whose backup this is; None for an empty place. Raises InputError for a foreign one, LogCorruptError."""
    raw = _identity(store)
    if raw is None:
        return None
    found = _decode(raw, Identity, f"{store.url}/{IDENTITY}")
    if found.format != _FORMAT:
        raise InputError(f"{store.url} is a backup of another program; name an empty or new place")
    if found.version > VERSION:
        raise FormatTooNewError(
            f"{store.url} is in format {found.version}, this program reads up to {VERSION}: upgrade session-mgmt-mcp"
        )
    return found


def _identity(store: ObjectStore) -> bytes | None:
    """What BACKUP.json holds; None for an empty place. Raises InputError where other things lie there without it."""
    with contextlib.suppress(FileNotFoundError):
        return get(store, IDENTITY)
    foreign = next((o.name for o in store.list() if not _LEFTOVER.fullmatch(o.name)), None)
    if foreign is None:
        return None
    with contextlib.suppress(
        FileNotFoundError
    ):  # another backup may have begun meanwhile: this is what it makes first
        return get(store, IDENTITY)
    raise InputError(
        f"{store.url} holds {foreign} and no {IDENTITY}: no backup of this program, left as it is; "
        "name an empty or new place"
    )


def claim(store: ObjectStore, log_id: str, origin: str) -> None:
    """Make the place this log's, or find that it is. Raises InputError where it is not, and changes nothing then."""
    found = identify(store)
    if found is None:
        mine = Identity(_FORMAT, VERSION, log_id, origin, now_us())
        store.put(IDENTITY, [_encode(mine)])
        store.sync([IDENTITY])
        found = identify(store)  # of two that claim it at once one wins
    if found is None or found.log_id != log_id:
        raise InputError(
            f"{store.url} is the backup of another log ({found and found.log_id}), left as it is; "
            "name an empty or new place for this one"
        )


# -- snapshots ---------------------------------------------------------------------------------------------------


def list_snapshots(store: ObjectStore) -> list[SnapshotName]:
    """Every snapshot, the newest (by position) last; of one that a purge is replacing, the replacement."""
    newest: dict[tuple[int, int], SnapshotName] = {}
    for found in all_snapshots(store):
        key = (found.position, found.created_at)
        newest[key] = max(found, newest.get(key, found))
    return sorted(newest.values())


def all_snapshots(store: ObjectStore) -> list[SnapshotName]:
    """`list_snapshots` with those that are being replaced."""
    found = (_SNAPSHOT.fullmatch(stored.name) for stored in store.list("snapshots"))
    return sorted(SnapshotName(int(m[1]), int(m[2]), int(m[3]), m[0]) for m in found if m)


def read_snapshots(store: ObjectStore) -> list[tuple[SnapshotName, Snapshot]]:
    """All of them. Raises LogCorruptError for one that does not check."""
    for left in reversed(range(_TRIES)):
        try:
            return [(found, read_snapshot(store, found)) for found in list_snapshots(store)]
        except FileNotFoundError as error:  # replaced or dropped between listing and reading
            if not left:
                raise LogCorruptError(f"{store.url}: a snapshot is listed and not there: {error}") from error
    raise AssertionError("unreachable: the last try returns or raises")


def read_snapshot(store: ObjectStore, found: SnapshotName) -> Snapshot:
    """Raises FileNotFoundError, LogCorruptError, FormatTooNewError."""
    raw = get(store, found.name)
    where = f"{store.url}/{found.name}"
    snapshot = _decode(raw, Snapshot, where)
    if snapshot.version > VERSION:
        raise FormatTooNewError(
            f"{where} is in format {snapshot.version}, this program reads up to {VERSION}: upgrade session-mgmt-mcp"
        )
    if _name_of(snapshot, raw) != found.name:
        raise LogCorruptError(f"{where} does not hold what its name says; restore another snapshot")
    return snapshot


def find_snapshot(store: ObjectStore, wanted: str | None) -> tuple[SnapshotName, Snapshot]:
    """The newest, or the one whose id is or begins with `wanted`. Raises InputError, LogCorruptError."""
    for left in reversed(range(_TRIES)):
        names = list_snapshots(store)
        if not names:
            raise InputError(f"{store.url} holds no complete backup yet; `session-mgmt-mcp backup` makes one")
        hits = [n for n in names if n.id == wanted] or [n for n in names if n.id.startswith(wanted or "")]
        if not hits or (wanted and len(hits) > 1):
            shown = ", ".join(n.id for n in (hits or names)[-5:])
            raise InputError(f"{len(hits)} snapshots match {wanted!r}; there are {shown}")
        try:
            return hits[-1], read_snapshot(store, hits[-1])
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def put_snapshot(store: ObjectStore, snapshot: Snapshot) -> SnapshotName:
    """Store it durably: from now on the backup holds it."""
    raw = _encode(snapshot)
    name = _name_of(snapshot, raw)
    store.put(name, [raw])
    store.sync([name])
    return SnapshotName(snapshot.position, snapshot.created_at, snapshot.generation, name)


def _name_of(snapshot: Snapshot, raw: bytes) -> str:
    digest = sha256(raw).hexdigest()[:8]
    return (
        f"snapshots/{snapshot.position:020}-{snapshot.created_at:020}-{snapshot.generation:04}-{digest}.json"
    )


# -- what was forgotten ------------------------------------------------------------------------------------------


def put_forgotten(store: ObjectStore, tombstones: Iterable[PayloadForgotten]) -> int:
    """Note in the backup what was forgotten; how many notes are new."""
    there = {stored.name for stored in store.list("forgotten")}
    new = []
    for tombstone in tombstones:
        raw = msgspec.json.encode(tombstone)
        name = f"forgotten/{sha256(raw).hexdigest()[:32]}.json"
        if name not in there and store.put(name, [raw]):
            new.append(name)
    if new:
        store.sync(new)
    return len(new)


def read_forgotten(store: ObjectStore) -> list[PayloadForgotten]:
    """Everything that is noted as forgotten. Raises LogCorruptError."""
    out = []
    for stored in store.list("forgotten"):
        if not stored.name.endswith(".json"):
            continue
        raw = get(store, stored.name)
        if f"forgotten/{sha256(raw).hexdigest()[:32]}.json" != stored.name:
            raise LogCorruptError(
                f"{store.url}/{stored.name} does not match its own checksum; remove it and run `session-mgmt-mcp "
                "backup` there again, which writes it anew"
            )
        out.append(msgspec.json.decode(raw, type=PayloadForgotten))
    return out


def forgotten_ids(tombstones: Sequence[PayloadForgotten]) -> dict[int, str]:
    """{position: event id (hex)} of every forgotten event. Another log's events of that number have other ids."""
    return {p: i for t in tombstones for p, i in zip(t.positions, t.event_ids, strict=False)}


# -- self-checked JSON -------------------------------------------------------------------------------------------


def _encode(value: msgspec.Struct) -> bytes:
    body = msgspec.json.encode(value)[:-1]
    return body + b',"sha256":"' + sha256(body).hexdigest().encode() + b'"}\n'


def _decode(raw: bytes, type_: type[T], where: str) -> T:
    body, _, digest = raw.rpartition(b',"sha256":"')
    if sha256(body).hexdigest().encode() + b'"}\n' != digest:
        raise LogCorruptError(f"{where} does not match its own checksum; {_MEND}")
    try:
        return msgspec.json.decode(body + b"}", type=type_)
    except msgspec.MsgspecError as error:
        raise LogCorruptError(f"{where}: {error}; {_MEND}") from None
