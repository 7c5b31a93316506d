"""What the rest of the program may ask of a log, whatever keeps it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from session_mgmt_mcp.core.envelope import Event, NewEvent, Receipt


class Head(NamedTuple):
    """The end of the log as a reader sees it."""

    position: int  # of the last event, 0 for an empty log
    chain: bytes  # 32 bytes


class EventLog(Protocol):
    """An append-only log of events with a global, gapless order."""

    @property
    def log_id(self) -> str: ...

    def append(self, events: Sequence[NewEvent], *, dedupe: bool = True) -> list[Receipt]:
        """Append as one atomic, durable batch, in order; a receipt for each event.

        With `dedupe`, an event whose id is in the log already is left out and its receipt says so. An empty sequence
        is allowed. Raises AppendError (nothing acknowledged), LogCorruptError, DataFolderError.
        """

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        """Batches of events with after < position <= upto, in order, without gaps. Forgotten payloads are None."""

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        """The events at these positions; positions that do not exist are left out."""

    def positions_of(self, event_ids: Sequence[bytes]) -> dict[bytes, int]:
        """{event id: position} of those that are in the log, forgotten ones too."""

    def head(self) -> Head:
        """The last event a reader sees now, with its chain."""

    def sealed(self) -> Head:
        """The last event in an immutable segment; published projections never go beyond it."""

    def chain_at(self, position: int) -> bytes | None:
        """The chain after `position` where a segment or frame ends there, else None."""
