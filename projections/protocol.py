"""What a projection is: a read model of the log that can be thrown away and rebuilt at any time."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.ports import EventLog

LEXICAL = "lexical"
NAMES = (
    "query",
    LEXICAL,
    "vector",
)  # of all projections, in the order they are built: each may read those before it


class Watermark(NamedTuple):
    """How far a published state goes: the last position it holds and the log's chain after it."""

    position: int = 0
    chain: bytes = b""

    def fits(self, log: EventLog) -> bool:
        """Whether the log still has this very history."""
        return self.position == 0 or log.chain_at(self.position) == self.chain


class Projection(Protocol):
    """Built by one writer, the holder of the maintenance lock; read by any number of processes.

    `apply` and `reset` touch files no reader knows yet. `publish` makes them visible in one atomic step, together with
    their watermark: after a crash a reader finds the state before or the state after, never one between. A published
    state that is unreadable, of another log, of another history or of another schema is not used: readers read the log
    instead, and the writer starts from nothing. The writer does so too where the state is of another interpretation,
    which readers of a long log use until then.
    """

    name: str
    schema_version: int

    @property
    def watermark(self) -> Watermark: ...

    def apply(self, batch: Sequence[Event]) -> None:
        """Take in events that follow the ones applied before."""

    def reset(self) -> None:
        """Start from nothing; what is published stays until the next `publish`."""

    def publish(self, watermark: Watermark) -> None:
        """Make what was applied visible, and remove files nobody needs any more."""


def views_folder(folder: Path) -> Path:
    """Where the published projections of a data folder lie."""
    return Path(folder) / "views"
