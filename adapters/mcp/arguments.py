"""Types of the tools' arguments: what a model is told of them, and their bounds."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from session_mgmt_mcp.core.errors import InputError

WORD_CHARS_MAX = 400  # cursors, codes, times, tags
ID_CHARS_MAX = 128
PATH_CHARS_MAX = 1024
NAME_CHARS_MAX = 200
NOTE_CHARS_MAX = 4000
POSITION_MAX = 1 << 53  # what JSON carries exactly

Session = Annotated[
    str | None, Field(description="id or its beginning", min_length=1, max_length=ID_CHARS_MAX)
]
Project = Annotated[str | None, Field(description="folder or name", max_length=PATH_CHARS_MAX)]
Position = Annotated[int, Field(ge=1, le=POSITION_MAX)]
Cursor = Annotated[str | None, Field(description="of the answer before", max_length=WORD_CHARS_MAX)]
Note = Annotated[
    str, Field(description="what the record cannot say: why, what next", max_length=NOTE_CHARS_MAX)
]
Key = Annotated[
    str | None, Field(description="the same key stores once", min_length=1, max_length=NAME_CHARS_MAX)
]
Time = Annotated[str | None, Field(description="ISO time (UTC), yesterday", max_length=WORD_CHARS_MAX)]
Before = Annotated[str | None, Field(description="as after", max_length=WORD_CHARS_MAX)]
Budget = Annotated[int, Field(description="answer length", ge=100, le=20_000)]
Format = Literal["concise", "detailed"]


def time_us(name: str, value: str | None) -> int | None:
    """A date or time as µs since the epoch; UTC where it names no zone. Raises InputError."""
    from session_mgmt_mcp.projections.query_times import parse_time

    if not value:
        return None
    try:
        return parse_time(value, datetime.now(UTC))
    except InputError as error:
        raise InputError(f"{name}={error}") from None
