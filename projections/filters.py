"""What a search or a list may be narrowed to, as a predicate, as SQL and as a tantivy query."""

from typing import Any, NamedTuple

import tantivy

from session_mgmt_mcp.projections.documents import number_of
from session_mgmt_mcp.projections.rows import Row

TIME_MAX = (1 << 62) - 1


class Filters(NamedTuple):
    """None: everything. `session` is a full id; `project` a folder, which stands for all below it too."""

    session: str | None = None
    project: str | None = None
    assistant: str | None = None
    kind: str | None = None
    after: int | None = None  # µs since the epoch, inclusive
    before: int | None = None  # exclusive

    @property
    def folder(self) -> str | None:
        return None if self.project is None else self.project.rstrip("/\\")

    def passes(self, row: Row) -> bool:
        folder = self.folder
        return (
            (self.session is None or row.session == self.session)
            and (self.assistant is None or row.assistant == self.assistant)
            and (self.kind is None or row.kind == self.kind)
            and (self.after is None or row.occurred_at >= self.after)
            and (self.before is None or 0 < row.occurred_at < self.before)
            and (folder is None or is_below(row.project, folder))
        )

    def clauses(self, schema: tantivy.Schema, *, rows: bool) -> list[tantivy.Query]:
        """What a document must match; `rows`: of the rows' index, else of the sessions'."""
        term = tantivy.Query.term_query
        out = []
        if self.session is not None:
            out.append(term(schema, "session", number_of(self.session)))
        if self.folder is not None:
            out.append(term(schema, "under", self.folder, "basic"))
        if self.assistant is not None:
            out.append(term(schema, "assistant", self.assistant, "basic"))
        if rows and self.kind is not None:
            out.append(term(schema, "kind", self.kind, "basic"))
        if rows and (self.after is not None or self.before is not None):
            low = max(self.after if self.after is not None else 1, 1 if self.before is not None else 0)
            high = self.before if self.before is not None else TIME_MAX
            out.append(
                tantivy.Query.range_query(
                    schema, "occurred_at", tantivy.FieldType.Integer, low, high, include_upper=False
                )
            )
        return [tantivy.Query.const_score_query(query, 0.0) for query in out]


def is_below(project: str, folder: str) -> bool:
    """Whether `project` is `folder` or lies below it."""
    path = project.rstrip("/\\")
    return path == folder or (path.startswith(folder) and path[len(folder) : len(folder) + 1] in ("/", "\\"))


def project_sql(folder: str) -> tuple[str, list[Any]]:
    """The same as SQL over a column `project`."""
    folder = folder.rstrip("/\\")
    below = "(rtrim(project, '/\\') = ? OR starts_with(project, ? || '/') OR starts_with(project, ? || '\\'))"
    return below, [folder, folder, folder]
