"""Times as a model is told them: UTC, to the minute."""

from datetime import UTC, datetime


def minute(time_us: int) -> str:
    """`2026-03-01 14:05Z`; a time that is none, or that no calendar has, is said to be unknown."""
    try:
        return (
            datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%MZ")
            if time_us
            else "time unknown"
        )
    except (ValueError, OverflowError, OSError):
        return "time unknown"


def span(start_us: int, end_us: int) -> str:
    """From when to when: a minute only once, the day once where it is one."""
    start, end = minute(start_us), minute(end_us)
    if start == end:
        return start
    return f"{start} to {end[11:] if start[:10] == end[:10] else end}"
