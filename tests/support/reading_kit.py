"""What a service found out about itself, as tests of its metrics need it."""

from session_mgmt_mcp.adapters.http.reading import Reading

FULL = Reading(
    taken_at=1_700_000_000.0,
    sync_s=0.001,
    position=41,
    published={"query": 40, "lexical": 39},
    lag_events=2,
    lag_s=3.5,
    vectors_behind=7,
    journal_bytes=8 << 20,
    segments=3,
    segment_bytes=1000,
    forgotten=1,
    spooled=4,
    rejected={"spool": 1, "quarantine": 2},
    live_sessions=5,
    disk_free_bytes=10,
    disk_bytes=20,
    last_backup_at=1_600_000_000.0,
    anonymous_bytes=100,
    mapped_bytes=200,
)
"""With everything found out."""
