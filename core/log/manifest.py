"""The list of segments: immutable, published put-if-absent, the highest version counts (FORMAT.md section 4)."""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import FormatTooNewError, LogCorruptError
from session_mgmt_mcp.core.log.durable import sha256, sync_folder, write_new
from session_mgmt_mcp.core.log.frame import FORMAT_VERSION

KEEP = 8
_LEFTOVER_AGE_S = 86_400


class SegmentEntry(msgspec.Struct, frozen=True):
    """One sealed segment. Chains are hex; `bytes` is the size of the Parquet file."""

    first: int
    last: int
    file: str
    sha256: str
    ids: str
    ids_sha256: str
    bytes: int
    chain_before: str
    chain: str
    forgotten: int = 0  # payloads taken out


class Manifest(msgspec.Struct, frozen=True):
    """One version of the list. Version 0 is the empty log's, never written."""

    version: int
    format_version: int
    log_id: str
    previous: str | None
    created_at: int
    segments: tuple[SegmentEntry, ...]

    @property
    def last(self) -> int:
        """The last sealed position, 0 for none."""
        return self.segments[-1].last if self.segments else 0

    @property
    def chain(self) -> bytes:
        """The chain after the last sealed position, empty for none."""
        return bytes.fromhex(self.segments[-1].chain) if self.segments else b""


class _Version(msgspec.Struct):
    """What every manifest says, whatever its version."""

    format_version: int


def manifest_path(folder: str, version: int) -> str:
    return f"{folder}/manifest/{version:020d}.json"


def versions(folder: str) -> list[int]:
    """The versions that are there, in order."""
    names = os.listdir(folder + "/manifest")
    return sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit())


def load_manifest(folder: str) -> Manifest:
    """The highest version. Raises LogCorruptError where it does not check: an older one would hide events."""
    while found := versions(folder):
        # Removed between listing and reading: newer ones took its place.
        with contextlib.suppress(FileNotFoundError):
            return read_manifest(manifest_path(folder, found[-1]))
    return Manifest(0, FORMAT_VERSION, "", None, 0, ())


def read_manifest(path: str) -> Manifest:
    """Raises LogCorruptError, FormatTooNewError, FileNotFoundError."""
    raw = Path(path).read_bytes()
    body, _, digest = raw.rpartition(b',"sha256":"')
    if sha256(body).digest().hex().encode() != digest.removesuffix(b'"}\n'):
        raise LogCorruptError(f"{path} does not match its own checksum; restore it from a backup")
    try:
        version = msgspec.json.decode(body + b"}", type=_Version).format_version
        if version > FORMAT_VERSION:  # before the rest, which may be called otherwise then
            raise FormatTooNewError(
                f"{path} is in format {version}, this program reads up to {FORMAT_VERSION}: upgrade session-mgmt-mcp"
            )
        return msgspec.json.decode(body + b"}", type=Manifest)
    except msgspec.MsgspecError as error:
        raise LogCorruptError(f"{path}: {error}; restore it from a backup") from None


def publish(folder: str, base: Manifest, log_id: str, segments: tuple[SegmentEntry, ...]) -> Manifest | None:
    """Publish the version after `base`; None where somebody else published one first."""
    previous = None
    if base.version:
        previous = sha256(Path(manifest_path(folder, base.version)).read_bytes()).digest().hex()
        # Its publisher may have died before this: a version must not outlive a power cut that takes the one before.
        sync_folder(folder + "/manifest")
    manifest = Manifest(base.version + 1, FORMAT_VERSION, log_id, previous, now_us(), segments)
    body = msgspec.json.encode(manifest)[:-1]
    raw = body + b',"sha256":"' + sha256(body).digest().hex().encode() + b'"}\n'
    temporary = f"{folder}/manifest/{os.urandom(6).hex()}.tmp"
    write_new(temporary, raw)
    try:
        os.link(temporary, manifest_path(folder, manifest.version))
    except FileExistsError:
        return None
    finally:
        os.unlink(temporary)
        sync_folder(folder + "/manifest")
    return manifest


def drop_old(folder: str) -> None:
    """Remove all but the last versions, and what interrupted publishers left."""
    old = versions(folder)[:-KEEP]
    if old:
        sync_folder(folder + "/manifest")  # those that are kept must be there to stay
    for version in old:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(manifest_path(folder, version))
    limit = time.time() - _LEFTOVER_AGE_S
    for name in os.listdir(folder + "/manifest"):
        path = f"{folder}/manifest/{name}"
        with contextlib.suppress(FileNotFoundError):
            if name.endswith(".tmp") and os.path.getmtime(path) < limit:
                os.unlink(path)
