"""What events tell, by key, and which other events tell the same: what forgetting must know.

Positions are of the log; what is not published yet is found too.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.facts import KINDS_COUNTED, KINDS_WITH_TWINS, text_key
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.tail import QueryReader

_COUNTED = ", ".join(f"'{kind}'" for kind in KINDS_COUNTED)
_WITH_TWINS = ", ".join(f"'{kind}'" for kind in KINDS_WITH_TWINS)
# What the wanted events tell, and the n-th of its text every counted row of their sessions is in its source.
_TOLD = f"""
CREATE TEMP TABLE told AS SELECT id, id >> {ORDINAL_BITS} AS position, key, session, kind, source, text_digest
  FROM all_rows WHERE id >> {ORDINAL_BITS} IN (SELECT position FROM wanted);
CREATE TEMP TABLE counted AS
  SELECT *, row_number() OVER (PARTITION BY session, kind, source, text_digest ORDER BY id) AS n FROM (
    SELECT id, session, kind, source, text_digest FROM all_rows WHERE kind IN ({_COUNTED})
    UNION ALL SELECT id, session, kind, source, text_digest FROM all_places
  ) WHERE session IN (SELECT session FROM told);
"""


def action_keys_of(log: EventLog, folder: Path, positions: Collection[int]) -> list[str]:
    """The completed keys of everything these events tell, each once, in order.

    A prompt or reply has a key made of its text besides its own, by which a report that shares no id is known again.
    """
    with _told(log, folder, positions) as files:
        found = files.fetch(
            "SELECT t.key, t.kind, t.session, t.text_digest, c.n FROM told AS t LEFT JOIN counted AS c USING (id) "
            "ORDER BY t.id"
        )
    keys: dict[str, None] = {}
    for key, kind, session, digest, n in found:
        keys[key] = None
        if n is not None and (by_text := text_key(kind, session, digest, n)):
            keys[by_text] = None
    return list(keys)


def twins_of(log: EventLog, folder: Path, positions: Collection[int]) -> list[int]:
    """Positions of other events that tell one of the same facts: a hook's report beside the transcript's record.

    A twin may tell more than the shared fact, as the report of a finished tool call tells the call too. Nobody's twins
    are looked for twice: the keys to keep hidden are those of `positions`, not those of their twins.
    """
    with _told(log, folder, positions) as files:
        found = files.fetch(
            f"SELECT DISTINCT id >> {ORDINAL_BITS} AS position FROM ("
            "  SELECT id FROM all_rows WHERE key IN (SELECT key FROM told) UNION ALL "
            "  SELECT b.id FROM told AS t JOIN counted AS a USING (id) "
            "  JOIN counted AS b ON (a.session, a.kind, a.text_digest, a.n) = (b.session, b.kind, b.text_digest, b.n) "
            f" WHERE t.kind IN ({_WITH_TWINS}) AND b.id IN (SELECT id FROM all_rows)"
            ") WHERE position NOT IN (SELECT position FROM wanted) ORDER BY position"
        )
    return [r[0] for r in found]


@contextmanager
def _told(log: EventLog, folder: Path, positions: Collection[int]) -> Iterator[QueryFiles]:
    """The query view with tables of what the events at these positions tell."""
    reader = QueryReader(log, views_folder(folder))
    try:
        reader.refresh()
        files = reader.sql()
        wanted = pa.table({"position": pa.array(sorted(set(positions)), pa.int64())})
        files.connection.register("wanted", wanted)
        for statement in _TOLD.split(";"):
            if statement.strip():
                files.connection.execute(statement)
        yield files
    finally:
        reader.close()
