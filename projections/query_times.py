"""Dates and times as people write them."""

import re
from datetime import UTC, datetime, time, timedelta

from session_mgmt_mcp.core.errors import InputError

EXAMPLES = '2026-03-01, 2026-03-01T14:30, yesterday, "last week", "3 days ago", monday or "march 2026"'
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_AGO = re.compile(
    r"(?:(?P<many>\d{1,6})|an?|one)\s*(?P<unit>minute|min|hour|h|day|d|week|w|month|year|y)s?(?:\s+ago)?"
)
_LAST = re.compile(r"(?P<which>last|this)\s+(?P<unit>week|month|year)")
_YEAR_MONTH = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d\d))?")


def parse_time(text: str, now: datetime | None = None) -> int:
    """A point in time as µs since the epoch: of a day, week, month or year its beginning. Raises InputError.

    What names no zone is in that of `now`, default: the machine's local time. "Last week" begins on a Monday, "monday" is
    the last one before today, and "3 days ago" begins at midnight, as all but hours and minutes do.
    """
    now = now or datetime.now()
    try:
        moment = _relative(" ".join(text.lower().split()), now)
        if moment is None:
            moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=now.tzinfo) if now.tzinfo else moment.astimezone()
        delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text!r} is no date or time; write {EXAMPLES}") from None
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _relative(text: str, now: datetime) -> datetime | None:
    """None where the text is nothing of this kind."""
    today = datetime.combine(now.date(), time.min)
    if text == "now":
        return now
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    if match := _AGO.fullmatch(text):
        return _ago(int(match["many"] or 1), match["unit"], now, today)
    if match := _LAST.fullmatch(text):
        return _beginning(match["unit"], today, back=match["which"] == "last")
    if match := _YEAR_MONTH.fullmatch(text):
        return datetime(int(match["year"]), int(match["month"] or 1), 1)
    return _named(text, today)


def _named(text: str, today: datetime) -> datetime | None:
    """A day of the week or a month, each perhaps abbreviated."""
    words = text.removeprefix("last ").split()
    day = _index(_DAYS, words[0]) if len(words) == 1 else None
    if day is not None:
        return today - timedelta(days=(today.weekday() - day - 1) % 7 + 1)
    month = _index(_MONTHS, words[0]) if words else None
    if month is None or len(words) > 2:
        return None
    if len(words) == 2:
        return datetime(int(words[1]), month + 1, 1)
    return datetime(today.year - (month + 1 > today.month), month + 1, 1)


def _index(names: tuple[str, ...], word: str) -> int | None:
    return next((i for i, name in enumerate(names) if len(word) >= 3 and name.startswith(word)), None)


def _ago(many: int, unit: str, now: datetime, today: datetime) -> datetime:
    if unit in ("hour", "h"):
        return now - timedelta(hours=many)
    if unit in ("minute", "min"):
        return now - timedelta(minutes=many)
    if unit in ("day", "d"):
        return today - timedelta(days=many)
    if unit in ("week", "w"):
        return today - timedelta(weeks=many)
    months = today.year * 12 + today.month - 1 - many * (12 if unit in ("year", "y") else 1)
    year, month = divmod(months, 12)
    first = datetime(year, month + 1, 1)
    following = datetime(year + (month == 11), (month + 1) % 12 + 1, 1)
    return first + timedelta(days=min(today.day, (following - first).days) - 1)


def _beginning(unit: str, today: datetime, *, back: bool) -> datetime:
    if unit == "week":
        return today - timedelta(days=today.weekday() + 7 * back)
    if unit == "year":
        return datetime(today.year - back, 1, 1)
    month = today.replace(day=1)
    return (month - timedelta(days=1)).replace(day=1) if back else month
