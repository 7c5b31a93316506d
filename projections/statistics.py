"""What the log holds, summed up by SQL over the shown rows: activity, projects, tools, files, tokens, sessions."""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from session_mgmt_mcp.projections.filters import any_project_sql
from session_mgmt_mcp.projections.projects import Projects
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.sessions import LOG_ASSISTANT

# Days are local ones. Where zones lie and clocks change, they differ from UTC by multiples of this.
_SLOT_US = 15 * 60 * 1_000_000
TOP = 10


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What happened on a local day."""

    day: str  # 2026-03-01
    actions: int
    prompts: int
    sessions: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """How much was done in a project or with an assistant."""

    name: str
    sessions: int
    prompts: int
    tool_calls: int
    actions: int
    last_at: int  # µs since the epoch, 0 where unknown


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's calls, and how many of its results say they failed."""

    tool: str
    calls: int
    failed: int


class EditedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and how often and in how many sessions it was edited."""

    file: str
    edits: int
    sessions: int


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a model. A message is counted once, as its last report has it."""

    model: str
    messages: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """How long sessions are: the middle one, one in ten longer than, the longest."""

    median: int
    p90: int
    longest: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What `stats` shows. Lists are the largest first, days in order; days without anything are left out."""

    sessions: int
    prompts: int
    tool_calls: int
    actions: int
    first_at: int  # µs since the epoch, 0 where no time is known
    last_at: int
    days: list[Day]
    projects: list[Activity]
    assistants: list[Activity]
    tools: list[ToolUse]
    files: list[EditedFile]
    tokens: list[Tokens]
    session_actions: Lengths
    session_prompts: Lengths
    session_seconds: Lengths  # from a session's first to its last action, pauses included


def statistics(
    files: QueryFiles,
    *,
    projects: Projects,
    project: str | None = None,
    after: int | None = None,
    before: int | None = None,
    top: int = TOP,
) -> Statistics:
    """Sums over the rows people see, what commands appended left out. `after` (inclusive) and `before` are µs since the epoch; rows without a time are
    in neither. `projects`: which folders are one; `top`: how many projects, tools and files at most.
    """
    asked = _Asked(files, projects.widened(project) if project is not None else (), after, before)
    totals = asked.fetch(f"SELECT {_COUNTS} FROM shown WHERE {{where}}")[0]
    return Statistics(
        sessions=totals[0],
        prompts=totals[1],
        tool_calls=totals[2],
        actions=totals[3],
        first_at=totals[4],
        last_at=totals[5],
        days=_days(asked),
        projects=_in_projects(asked, projects, top),
        assistants=_activities(asked.fetch(_ASSISTANTS, top)),
        tools=[ToolUse(tool=r[0], calls=r[1], failed=r[2]) for r in asked.fetch(_TOOLS, top)],
        files=[EditedFile(file=r[0], edits=r[1], sessions=r[2]) for r in asked.fetch(_FILES, top)],
        tokens=_tokens(asked),
        **_lengths(asked),
    )


class _Asked:
    """The rows asked for: a condition on `shown`."""

    def __init__(
        self, files: QueryFiles, projects: Sequence[str], after: int | None, before: int | None
    ) -> None:
        self._files = files
        conditions, self._parameters = [], list[Any]()
        if projects:
            condition, values = any_project_sql(projects)
            conditions.append(condition)
            self._parameters += values
        for condition, value in (("occurred_at >= ?", after), ("occurred_at < ?", before)):
            if value is not None:
                conditions += [condition, "occurred_at > 0"]
                self._parameters.append(value)
        self.whole = not conditions
        self._where = " AND ".join([f"assistant <> '{LOG_ASSISTANT}'", *conditions])

    def fetch(self, sql: str, *more: Any) -> list[tuple[Any, ...]]:
        """Of SQL with `{where}` once, before any other parameter."""
        return self._files.fetch(sql.format(where=self._where), [*self._parameters, *more])


_COUNTS = (
    "count(DISTINCT session), count(*) FILTER (kind = 'PromptSubmitted'), count(*) FILTER (kind = 'ToolCalled'), "
    "count(*), coalesce(min(occurred_at) FILTER (occurred_at > 0), 0), coalesce(max(occurred_at), 0)"
)
_PROJECTS = f"""
SELECT root, {_COUNTS} FROM (SELECT * FROM shown WHERE {{where}})
JOIN (SELECT unnest(?) AS project, unnest(?) AS root) USING (project)
GROUP BY root ORDER BY count(*) DESC, root LIMIT ?
"""
_ASSISTANTS = f"""
SELECT assistant, {_COUNTS} FROM shown WHERE {{where}} AND assistant <> ''
GROUP BY assistant ORDER BY count(*) DESC, assistant LIMIT ?
"""
_DAYS = f"""
SELECT occurred_at // {_SLOT_US}, session, count(*), count(*) FILTER (kind = 'PromptSubmitted')
FROM shown WHERE {{where}} AND occurred_at > 0 GROUP BY ALL
"""
_TOOLS = """
SELECT tool, count(*) FILTER (kind = 'ToolCalled') AS calls, count(*) FILTER (is_error) AS failed
FROM shown WHERE {where} AND tool <> '' AND kind IN ('ToolCalled', 'ToolReturned') GROUP BY tool
ORDER BY calls DESC, tool LIMIT ?
"""
_FILES = """
SELECT file, count(*) AS edits, count(DISTINCT session) FROM (
  SELECT unnest(files) AS file, session FROM shown WHERE {where} AND kind = 'ToolCalled' AND edit <> ''
) GROUP BY file ORDER BY edits DESC, file LIMIT ?
"""
_TOKENS = f"""
WITH wanted AS (SELECT DISTINCT id >> {ORDINAL_BITS} AS position FROM shown WHERE {{where}}),
asked AS (SELECT * FROM all_usage AS u WHERE {{choice}})
SELECT model, count(*), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens)
FROM asked WHERE message_id = '' OR id IN (SELECT max(id) FROM asked WHERE message_id <> '' GROUP BY message_id)
GROUP BY model ORDER BY sum(output_tokens) DESC, model
"""
_LENGTHS = """
SELECT quantile_disc(actions, [0.5, 0.9, 1.0]), quantile_disc(prompts, [0.5, 0.9, 1.0]),
       quantile_disc(seconds, [0.5, 0.9, 1.0])
FROM (
  SELECT count(*) AS actions, count(*) FILTER (kind = 'PromptSubmitted') AS prompts,
         coalesce((max(occurred_at) - min(occurred_at) FILTER (occurred_at > 0)) // 1000000, 0) AS seconds
  FROM shown WHERE {where} GROUP BY session
)
"""


def _in_projects(asked: _Asked, projects: Projects, top: int) -> list[Activity]:
    """Of all folders of a project together."""
    folders = [
        r[0] for r in asked.fetch("SELECT DISTINCT project FROM shown WHERE {where} AND project <> ''")
    ]
    return _activities(asked.fetch(_PROJECTS, folders, [projects.root_of(f) for f in folders], top))


def _activities(found: Sequence[Sequence[Any]]) -> list[Activity]:
    return [
        Activity(name=r[0], sessions=r[1], prompts=r[2], tool_calls=r[3], actions=r[4], last_at=r[6])
        for r in found
    ]


def _days(asked: _Asked) -> list[Day]:
    """Slots of all sessions, put together by local days."""
    day_of: dict[int, str] = {}
    actions: dict[str, int] = defaultdict(int)
    prompts: dict[str, int] = defaultdict(int)
    sessions: dict[str, set[str]] = defaultdict(set)
    for slot, session, count, prompted in asked.fetch(_DAYS):
        day = day_of.get(slot)
        if day is None:
            day = day_of[slot] = _local_day(slot)
        actions[day] += count
        prompts[day] += prompted
        sessions[day].add(session)
    return [
        Day(day=day, actions=actions[day], prompts=prompts[day], sessions=len(sessions[day]))
        for day in sorted(actions)
    ]


def _local_day(slot: int) -> str:
    """Raises nothing: what the clock of this machine cannot name is the last day it can."""
    try:
        moment = time.localtime(slot * _SLOT_US // 1_000_000)
        return date(moment.tm_year, moment.tm_mon, moment.tm_mday).isoformat()
    except (OverflowError, ValueError, OSError):
        return date.max.isoformat()


def _tokens(asked: _Asked) -> list[Tokens]:
    choice = "true" if asked.whole else f"u.id >> {ORDINAL_BITS} IN (SELECT position FROM wanted)"
    found = asked.fetch(_TOKENS.replace("{choice}", choice))
    return [Tokens(**dict(zip(Tokens.__struct_fields__, record, strict=True))) for record in found]


def _lengths(asked: _Asked) -> dict[str, Lengths]:
    found: Sequence[Sequence[int] | None] = asked.fetch(_LENGTHS)[0]
    names = ("session_actions", "session_prompts", "session_seconds")
    return {
        name: Lengths(**dict(zip(Lengths.__struct_fields__, map(int, values or (0, 0, 0)), strict=True)))
        for name, values in zip(names, found, strict=True)
    }
