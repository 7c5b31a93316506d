"""The query language: words, "exact phrases" and filters.

    why stale "cache key" file:session_store.py tool:bash after:"last week" -flaky

A filter is a known name, a colon and a value, without a space between; values with spaces stand in quotes, `\\"` in them is
a quotation mark. Several filters of one name: any of them; of different names: all. `-` before a word, a phrase or a
filter: none of it. All else is text: `http://…`, `std::vector`, `Error: foo`, `12:30`, `--flag`, `-x`.
"""

import os
import re
from collections.abc import Callable
from datetime import datetime
from difflib import get_close_matches
from typing import NamedTuple

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.filters import Filters
from session_mgmt_mcp.projections.kinds import kinds_of
from session_mgmt_mcp.projections.matching import is_absolute
from session_mgmt_mcp.projections.query_times import parse_time

NAMES = (
    "file",
    "project",
    "session",
    "assistant",
    "tool",
    "kind",
    "actor",
    "branch",
    "after",
    "before",
    "re",
)
_OTHER_NAMES = {  # what others call it
    "path": "file",
    "folder": "project",
    "repo": "project",
    "agent": "assistant",
    "since": "after",
    "until": "before",
    "regex": "re",
}
SHOWN_CHARS_MAX = 72  # of a query with an error
_LEAD_CHARS = 40
_NAME = re.compile(r"([a-z]+):(?=[^\s:])")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.|\\(?="))*)"', re.DOTALL)
_BARE = re.compile(r"\S+")
_NEAR = 0.75  # how alike a name must be to be taken for a mistyped one


class QueryError(InputError):
    """A malformed query; the message shows the place."""

    kind = "query"

    def __init__(self, message: str, query: str, start: int, end: int) -> None:
        super().__init__(f"{message}\n{_shown(query, start, end)}")


class Parsed(NamedTuple):
    """What a query asks: `text` ranks, `filters` decide. Phrases are in both."""

    text: str
    filters: Filters


class _Term(NamedTuple):
    """A part of a query. `name`: of a filter, `phrase`, or "" for a word."""

    name: str
    value: str
    negated: bool
    start: int
    end: int


def parse(
    query: str,
    now: datetime | None = None,
    *,
    resolve: Callable[[str], str] = str,
    check: Callable[[str], None] = lambda _: None,
) -> Parsed:
    """A query taken apart.

    `now`: what relative dates are relative to, and the zone (default: local time). `resolve` makes a full session id of
    the beginning of one, `check` refuses patterns; both may raise InputError. Raises QueryError.
    """
    query = query.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    words: list[str] = []
    wanted: dict[str, list[str]] = {}
    groups: list[tuple[str, tuple[str, ...]]] = []
    unwanted: list[tuple[str, str]] = []
    times: dict[str, int] = {}
    for term in _terms(query):
        if term.name == "" and not term.negated:
            words.append(term.value)
            continue
        values = _values(term, query, now, times, resolve, check)
        if term.negated:
            unwanted += [(term.name or "word", value) for value in values]
        elif term.name == "phrase":
            words += values
            groups.append(("phrase", values))
        elif values:
            wanted.setdefault(term.name, []).extend(values)
    patterns = tuple(wanted.pop("re", ()))
    groups += [(name, tuple(dict.fromkeys(values))) for name, values in wanted.items()]
    return Parsed(
        " ".join(words),
        Filters(
            any_of=tuple(groups),
            none_of=tuple(pair for pair in unwanted if pair[0] != "re"),
            after=times.get("after"),
            before=times.get("before"),
            patterns=(patterns,) if patterns else (),
            no_patterns=tuple(value for name, value in unwanted if name == "re"),
        ),
    )


# -- terms -----------------------------------------------------------------------------------------------------------


def _terms(query: str) -> list[_Term]:
    out = []
    at = 0
    while at < len(query):
        if query[at].isspace():
            at += 1
            continue
        term = _term(query, at)
        out.append(term)
        at = term.end
    return out


def _term(query: str, start: int) -> _Term:
    at = start + 1 if _is_minus(query, start) else start
    negated = at > start
    name = ""
    match = _NAME.match(query, at)
    if match and _is_filter(match[1], query, match.end()):
        name = _known(match[1], query, at, match.end())
        at = match.end() if name else at
    if query[at] == '"' and (name or query[at + 1 : at + 2].strip()):
        return _quoted(query, start, at, name or "phrase", negated)
    bare = _BARE.match(query, at)
    end = bare.end() if bare else at
    value = query[at:end]
    if negated and not name and len(value) < 3:  # a command's option
        return _Term("", query[start:end], False, start, end)
    return _Term(name, value, negated, start, end)


def _quoted(query: str, start: int, at: int, name: str, negated: bool) -> _Term:
    match = _QUOTED.match(query, at)
    if match is None:
        raise QueryError("this quotation mark is not closed; close it or leave it out", query, at, len(query))
    value = match[1].replace('\\"', '"')
    if not value.strip():
        raise QueryError(
            "there is nothing between the quotation marks; fill them or leave them out",
            query,
            at,
            match.end(),
        )
    return _Term(name, value, negated, start, match.end())


def _is_minus(query: str, at: int) -> bool:
    """Whether a minus sign that negates is at a place: not one of `--flag`, `->`, `- item` or `-1`."""
    following = query[at + 1 : at + 2]
    return query[at] == "-" and (following.isalpha() or following in ('"', "_", "."))


def _is_filter(name: str, query: str, at: int) -> bool:
    """Whether what looks like a filter is meant as one: URLs and paths of Windows are text."""
    if name == "re":
        return True
    return not query.startswith("//", at) and not query.startswith("\\\\", at)


def _known(name: str, query: str, start: int, end: int) -> str:
    """The name of a filter, or "" for text. Raises QueryError where it looks like a mistyped one."""
    if name in NAMES:
        return name
    near = _OTHER_NAMES.get(name) or next(iter(get_close_matches(name, NAMES, 1, _NEAR)), None)
    if near is None:
        return ""
    raise QueryError(
        f'there is no filter {name}: — did you mean {near}: ? To search for the text, write it in quotes: "{name}:…"',
        query,
        start,
        end,
    )


# -- values ----------------------------------------------------------------------------------------------------------


def _values(
    term: _Term,
    query: str,
    now: datetime | None,
    times: dict[str, int],
    resolve: Callable[[str], str],
    check: Callable[[str], None],
) -> tuple[str, ...]:
    """A term's values as filters want them; a time goes into `times` instead. Raises QueryError."""
    try:
        if term.name in ("after", "before"):
            _take_time(term, now, times)
            return ()
        if term.name == "session":
            return (resolve(term.value),)
        if term.name == "kind":
            return kinds_of(term.value)
        if term.name == "re":
            check(term.value)
        elif term.name == "project" and not is_absolute(term.value) and not term.value.strip("./\\"):
            raise InputError(
                "a project is a folder or the name of one; write project:shop or project:/home/me/shop"
            )
        elif term.name == "file" and not term.value.strip("./\\ "):
            raise InputError(
                "a file is a name, a path or the end of one; write file:app.py, file:src/ or file:*.sql"
            )
    except QueryError:
        raise
    except InputError as error:
        raise QueryError(str(error), query, term.start, term.end) from None
    if term.name in ("file", "project"):
        return (os.path.expanduser(term.value.strip()),)
    return (" ".join(term.value.split()) if term.name == "phrase" else term.value.strip(),)


def _take_time(term: _Term, now: datetime | None, times: dict[str, int]) -> None:
    if term.negated:
        other = "before" if term.name == "after" else "after"
        raise InputError(f"-{term.name}: says nothing {other}: does not; write {other}:{term.value}")
    if term.name in times:
        raise InputError(f"{term.name}: is there twice; leave one out")
    times[term.name] = parse_time(term.value, now)


def _shown(query: str, start: int, end: int) -> str:
    """The line of a query with the place, and a line that points to it."""
    first = query.rfind("\n", 0, start) + 1
    last = query.find("\n", start)
    last = len(query) if last < 0 else last
    low = max(first, start - _LEAD_CHARS)
    high = min(last, low + SHOWN_CHARS_MAX)
    marks = "^" * max(1, min(end, high) - start)
    line = "".join(c if c.isprintable() else " " for c in query[low:high])
    return f"  {line}\n  {' ' * (start - low)}{marks}"
