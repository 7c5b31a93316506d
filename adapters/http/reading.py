"""What a background thread found of the data folder and the process: what gauges show and `/ready` judges."""

import msgspec


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look. What could not be found out is None or missing, and `problems` says why (part -> a sentence)."""

    taken_at: float
    """When the look was over: s since the epoch."""
    problems: dict[str, str] = {}
    sync_s: float | None = None
    """How long a small write to the data folder took to be on the disk; None: it could not be made durable."""
    position: int | None = None
    """Of the log's last event; 0 for an empty log."""
    published: dict[str, int] = {}
    """Projection (query, lexical) -> the last position it holds."""
    lag_events: int | None = None
    """Events beyond the projection that is furthest behind."""
    lag_s: float | None = None
    """How long ago the oldest of these was recorded; 0 where there is none."""
    vectors_behind: int | None = None
    """Events of which nothing was embedded yet, those without text among them."""
    journal_bytes: int | None = None
    """Allocated for journals: what is not sealed, and the open journal's room."""
    segments: int | None = None
    segment_bytes: int | None = None
    forgotten: int | None = None
    """Payloads taken out of the log for good."""
    spooled: int | None = None
    """Events that a hook could not append and maintenance will."""
    rejected: dict[str, int] = {}
    """Place (spool, quarantine) -> what lies there because it was not, or not wholly, an event."""
    live_sessions: int | None = None
    """Sessions of assistants that are at work on this machine."""
    disk_free_bytes: int | None = None
    disk_bytes: int | None = None
    last_backup_at: float | None = None
    """When the last backup ended: s since the epoch; None: none is known."""
    anonymous_bytes: int | None = None
    """Memory of the process that is its own."""
    mapped_bytes: int | None = None
    """Memory that is the page cache's: mapped files, given back whenever others need it."""
