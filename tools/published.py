"""How far the published views of a data folder are, read from their own files: no lock, no question, no cache of theirs.

Read anew only where a file changed.
"""

from pathlib import Path
from typing import Any

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import query_files
from session_mgmt_mcp.projections.files import stamp
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.vector_state import STATE_FILE, VectorState, gaps, load_state, vector_folder


class Published:
    """The watermarks of one data folder. Not thread-safe."""

    def __init__(self, log: EventLog, views: Path) -> None:
        self._log = log
        self._views = views
        self._kept: dict[str, tuple[Any, Any]] = {}  # what -> stamps of its files, what they said

    def positions(self) -> dict[str, int]:
        """Projection (query, lexical) -> the last position that it holds; 0 where nothing usable is published."""
        state = self._query()
        return {"query": state.position if state else 0, "lexical": self._lexical(state)}

    def vectors_behind(self, head: int) -> int:
        """Events up to `head` of which nothing was embedded yet."""
        path = vector_folder(self._views) / STATE_FILE
        state: VectorState | None = self._fresh("vector", [path], lambda: load_state(self._views, self._log))
        if state is None:
            return head
        missing = gaps(state.covered, 1 << ORDINAL_BITS, (head + 1) << ORDINAL_BITS)
        return sum((high - low) >> ORDINAL_BITS for low, high in missing)

    def _query(self) -> query_files.QueryState | None:
        """What another version made serves too, until it is made anew."""
        path = query_files.query_folder(self._views) / query_files.STATE_FILE
        found: query_files.QueryState | None = self._fresh(
            "query", [path], lambda: query_files.load_state(self._views, self._log, of_any_version=True)
        )
        return found

    def _lexical(self, query: query_files.QueryState | None) -> int:
        """The index says how far it is in a document of its own, so it is opened where it changed."""
        from session_mgmt_mcp.projections import lexical  # loads its engine

        folder = lexical.lexical_folder(self._views)
        state = folder / query_files.STATE_FILE
        version = query.interpretation_version if query else 0
        name = self._fresh(
            f"generation {version}",
            [state],
            lambda: lexical.published_generation(folder, self._log, version),
        )
        if not name:
            return 0
        rows = folder / name / "rows"

        def position() -> int:
            return lexical.LexicalIndex(rows, lexical.rows_schema()).watermark.position

        return int(self._fresh("lexical", [state, rows / "meta.json"], position))

    def _fresh(self, what: str, files: list[Path], read: Any) -> Any:
        """What `read` returns, called again only after one of these files was replaced."""
        now = [stamp(file) for file in files]
        kept = self._kept.get(what)
        if kept is None or kept[0] != now:
            kept = self._kept[what] = (now, read())
        return kept[1]
