"""Sessions, summed up by SQL over the shown rows."""

from collections.abc import Sequence
from typing import Any

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.filters import any_project_sql
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.results import SessionSummary
from session_mgmt_mcp.projections.rows import ORDINAL_BITS

TITLE_CHARS_MAX = 120
CANDIDATES_SHOWN_MAX = 8
LOG_ASSISTANT = "session-mgmt"  # what commands append belongs to no session of an assistant

_SUMMARY = f"""
WITH titles AS (
  SELECT CASE WHEN t.origin = 'summary' AND t.leaf <> '' THEN l.session ELSE t.session END AS session, t.text,
         list_position(['agent', 'summary', 'ai', 'custom'], t.origin) AS strength, t.id
  FROM shown AS t LEFT JOIN (SELECT record, any_value(session) AS session FROM shown
    WHERE record IN (SELECT leaf FROM shown WHERE kind = 'SessionTitled' AND leaf <> '') GROUP BY record) AS l
    ON l.record = t.leaf
  WHERE t.kind = 'SessionTitled' AND trim(t.text) <> ''
),
title AS (
  SELECT session, arg_max(text, strength * (1::HUGEINT << 64) + id) AS title FROM titles
  WHERE session IS NOT NULL GROUP BY session
),
prompt AS (
  SELECT session, arg_min(text, id) AS text FROM shown WHERE kind = 'PromptSubmitted' GROUP BY session
),
project AS (
  SELECT session, arg_max(project, n * (1::HUGEINT << 64) - first) AS project FROM (
    SELECT session, project, count(*) AS n, min(id) AS first FROM shown WHERE project <> '' GROUP BY ALL
  ) GROUP BY session
),
summary AS (
  SELECT session, arg_min(assistant, id) AS assistant, coalesce(arg_max(branch, id) FILTER (branch <> ''), '') AS branch,
         coalesce(min(occurred_at) FILTER (occurred_at > 0), 0) AS started_at, max(occurred_at) AS ended_at,
         count(*) FILTER (kind = 'PromptSubmitted') AS prompts, count(*) FILTER (kind = 'ToolCalled') AS tool_calls,
         count(*) AS actions, min(id) >> {ORDINAL_BITS} AS first_position, max(id) >> {ORDINAL_BITS} AS last_position
  FROM shown GROUP BY session
)
SELECT s.session, s.assistant, coalesce(j.project, '') AS project, s.branch, coalesce(t.title, p.text, '') AS title,
       s.started_at, s.ended_at, s.prompts, s.tool_calls, s.actions, s.first_position, s.last_position
FROM summary AS s LEFT JOIN title AS t USING (session) LEFT JOIN prompt AS p USING (session)
LEFT JOIN project AS j USING (session)
"""


def list_sessions(
    files: QueryFiles, *, projects: Sequence[str] = (), assistant: str | None = None, limit: int = 50
) -> list[SessionSummary]:
    """The sessions, the last active first. `projects`: any of these folders or names of folders, and all below."""
    conditions, parameters = [f"assistant <> '{LOG_ASSISTANT}'"], list[Any]()
    if projects:
        condition, values = any_project_sql(projects)
        conditions.append(condition)
        parameters += values
    if assistant is not None:
        conditions.append("assistant = ?")
        parameters.append(assistant)
    where = " AND ".join(conditions)
    order = f"ORDER BY ended_at DESC, last_position DESC LIMIT {limit}"
    return [_summary(r) for r in files.fetch(f"SELECT * FROM ({_SUMMARY}) WHERE {where} {order}", parameters)]


def resolve_session(files: QueryFiles, id_or_prefix: str) -> str:
    """The full id. Raises InputError that names candidates where no session, or more than one, begins so.

    A session's agents have ids that go on from its own (`<id>#agent-…`): beside them the beginning means the session.
    """
    wanted = id_or_prefix.strip()
    if not wanted:
        raise InputError("no session was named; list the sessions to see their ids")
    found = [
        r[0]
        for r in files.fetch(
            "SELECT DISTINCT session FROM shown WHERE starts_with(session, ?) ORDER BY session", [wanted]
        )
    ]
    if wanted in found:
        return wanted
    whole = [session for session in found if "#" not in session[len(wanted) :]]
    if len(found) == 1 or len(whole) == 1:
        return str((whole or found)[0])
    if found:
        named = ", ".join(found[:CANDIDATES_SHOWN_MAX]) + (" …" if len(found) > CANDIDATES_SHOWN_MAX else "")
        raise InputError(f"{len(found)} sessions begin with {wanted!r}: {named}; give more of the id")
    latest = files.fetch(
        f"SELECT session FROM shown WHERE assistant <> '{LOG_ASSISTANT}' GROUP BY session ORDER BY max(id) DESC LIMIT 3"
    )
    hint = f"; the latest are {', '.join(r[0] for r in latest)}" if latest else "; nothing is stored yet"
    raise InputError(f"no session {wanted!r}{hint}")


def session_summary(files: QueryFiles, session: str) -> SessionSummary:
    """Of a full id that exists."""
    return _summary(files.fetch(f"SELECT * FROM ({_SUMMARY}) WHERE session = ?", [session])[0])


def _summary(record: Sequence[Any]) -> SessionSummary:
    title = " ".join(str(record[4]).split())
    if len(title) > TITLE_CHARS_MAX:
        title = title[: TITLE_CHARS_MAX - 1] + "…"
    fields = dict(zip(SessionSummary.__struct_fields__, record, strict=True))
    return SessionSummary(**{**fields, "title": title})
