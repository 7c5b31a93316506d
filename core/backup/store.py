"""Where a backup is kept, as core sees it: named objects, put once, never changed."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from session_mgmt_mcp.core.errors import DestinationError, LogCorruptError
from session_mgmt_mcp.core.log.durable import sha256

BLOCK = 1 << 20


class Stored(NamedTuple):
    """An object in a store. Names are relative, with `/`."""

    name: str
    bytes: int


class ObjectStore(Protocol):
    """Named byte strings. Every method may raise DestinationError: unreachable, full, or not allowed."""

    @property
    def url(self) -> str:
        """Where it is, as a person may be told: without passwords."""

    def put(self, name: str, blocks: Iterable[bytes]) -> bool:
        """Store the blocks under a new name, whole or not at all; False where the name is taken.

        What `blocks` raises is raised, and then nothing is stored. Durable only after `sync`.
        """

    def sync(self, names: Iterable[str]) -> None:
        """Return once these objects and their names are there to stay."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """The object's bytes, piece by piece. Raises FileNotFoundError."""

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Objects whose name begins with `prefix`, whole path parts only; leftovers of interrupted puts too."""

    def delete(self, name: str) -> None:
        """Remove an object; nothing where it is gone already."""


def get(store: ObjectStore, name: str) -> bytes:
    """A whole object. Raises FileNotFoundError, DestinationError."""
    return b"".join(store.blocks(name))


def checked(blocks: Iterable[bytes], digest: str, what: str) -> Iterator[bytes]:
    """The same blocks; LogCorruptError at their end where their SHA-256 is another."""
    found = sha256()
    for block in blocks:
        found.update(block)
        yield block
    if found.hexdigest() != digest:
        raise LogCorruptError(f"{what} is damaged: its SHA-256 is not {digest}")


def is_whole(store: ObjectStore, name: str, digest: str) -> bool:
    """Whether the object is there and reads back with this SHA-256."""
    found = sha256()
    try:
        for block in store.blocks(name):
            found.update(block)
    except FileNotFoundError:
        return False
    return bool(found.hexdigest() == digest)


def put_whole(
    store: ObjectStore, name: str, blocks: Callable[[], Iterable[bytes]], digest: str, what: str
) -> None:
    """Store an object and read it back. What is there already is kept if it is whole, else replaced.

    Raises LogCorruptError where the blocks are not what `digest` says, DestinationError.
    """
    for _ in range(2):
        store.put(name, checked(blocks(), digest, what))
        if is_whole(store, name, digest):
            return
        store.delete(name)  # half of it, left where a put is not atomic
    raise DestinationError(f"{store.url}/{name} does not read back as written; check that place")
