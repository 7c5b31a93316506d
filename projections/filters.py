"""What a search or a list may be narrowed to, as a predicate, as SQL and as a tantivy query."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tantivy

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections import matching
from session_mgmt_mcp.projections.analysis import exact_words
from session_mgmt_mcp.projections.documents import FIELDS, number_of
from session_mgmt_mcp.projections.kinds import EDIT
from session_mgmt_mcp.projections.lexical import WATERMARK
from session_mgmt_mcp.projections.matching import is_below
from session_mgmt_mcp.projections.rows import Row

__all__ = [
    "EDIT",
    "NO_FILTERS",
    "TIME_MAX",
    "Filters",
    "any_project_sql",
    "is_below",
    "named_project_sql",
    "project_sql",
]

TIME_MAX = (1 << 62) - 1
_OF_SESSIONS = ("session", "project", "assistant")  # what the sessions' index knows
Wanted = str | Sequence[str] | None  # a parameter: one value, any of several, or none: everything


class Filters(NamedTuple):
    """What is asked of rows beside words. Empty: everything.

    Names are those of `_PASSES`; values are as in the query language, sessions full ids, kinds tags of actions or
    `EDIT`. `patterns` (RE2) are for `regex_search` alone: neither predicate nor clauses look at them.
    """

    any_of: tuple[tuple[str, tuple[str, ...]], ...] = ()  # of each group a row must match one value
    none_of: tuple[tuple[str, str], ...] = ()
    after: int | None = None  # µs since the epoch, inclusive
    before: int | None = None  # exclusive
    patterns: tuple[tuple[str, ...], ...] = ()  # of each group one must be found
    no_patterns: tuple[str, ...] = ()
    ids: frozenset[int] | None = None  # only these rows

    def values(self, name: str) -> tuple[str, ...]:
        """The wanted values of a name, of all groups."""
        return tuple(value for group, values in self.any_of if group == name for value in values)

    def names(self, name: str) -> bool:
        """Whether anything is asked or excluded by this name."""
        return any(n == name for n, _ in (*self.any_of, *self.none_of))

    @property
    def phrases(self) -> tuple[str, ...]:
        return self.values("phrase")

    @property
    def one_session(self) -> bool:
        """Whether all results will be of one session."""
        return any(name == "session" and len(set(values)) == 1 for name, values in self.any_of)

    @property
    def of_sessions(self) -> "Filters":
        """What of it chooses sessions, without what chooses rows of them."""
        return Filters(tuple(group for group in self.any_of if group[0] in _OF_SESSIONS))

    @property
    def in_text(self) -> bool:
        """Whether `clauses` alone do not decide: candidates have to be looked at by `verifies`."""
        asked = [(name, value) for name, values in self.any_of for value in values]
        return any(_is_in_text(name, value) for name, value in (*asked, *self.none_of))

    def joined(self, other: "Filters") -> "Filters":
        """Both at once."""
        times = [[t for t in pair if t is not None] for pair in zip(self[2:4], other[2:4], strict=True)]
        ids = [chosen for chosen in (self.ids, other.ids) if chosen is not None]
        return Filters(
            self.any_of + other.any_of,
            self.none_of + other.none_of,
            max(times[0], default=None),
            min(times[1], default=None),
            self.patterns + other.patterns,
            self.no_patterns + other.no_patterns,
            frozenset.intersection(*ids) if ids else None,
        )

    def widened(self, name: str, wider: Callable[[str], Sequence[str]]) -> "Filters":
        """With all that `wider` makes of each value of a name, in its place."""

        def values_of(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(more for value in values for more in wider(value)))

        return self._replace(
            any_of=tuple((n, values_of(values) if n == name else values) for n, values in self.any_of),
            none_of=tuple(
                (n, v) for n, value in self.none_of for v in (wider(value) if n == name else (value,))
            ),
        )

    def passes(self, row: Row) -> bool:
        """Whether the row matches, as far as a row says."""
        return (
            (self.ids is None or row.id in self.ids)
            and (self.after is None or row.occurred_at >= self.after)
            and (self.before is None or 0 < row.occurred_at < self.before)
            and all(any(_PASSES[name](row, value) for value in values) for name, values in self.any_of)
            and not any(_PASSES[name](row, value) for name, value in self.none_of)
        )

    def verifies(self, row: Row) -> bool:
        """Of a row that matches the clauses, whether its text does too."""
        return all(
            any(_PASSES[name](row, value) for value in values)
            for name, values in self.any_of
            if any(_is_in_text(name, value) for value in values)
        ) and not any(_PASSES[name](row, value) for name, value in self.none_of if _is_in_text(name, value))

    def clauses(self, schema: tantivy.Schema, *, rows: bool) -> list[tantivy.Query]:
        """What a document must match; `rows`: of the rows' index, else of the sessions', which knows less: a session
        matches where a row of it may. Raises InputError where a value is too long.
        """
        query = tantivy.Query
        out = []
        for name, values in self.any_of:
            if rows or name in _OF_SESSIONS:
                found = [c for value in values for c in [_clause(schema, name, value)] if c is not None]
                if len(found) == len(values):
                    out.append(_any(found))
        if not rows:
            return [query.const_score_query(clause, 0.0) for clause in out]
        if self.ids is not None:
            out.append(query.term_set_query(schema, "id", list(self.ids)))
        if self.after is not None or self.before is not None:
            low = max(
                self.after if self.after is not None else 1, 1 if self.before is not None else -TIME_MAX
            )
            high = self.before if self.before is not None else TIME_MAX
            out.append(_times(schema, low, high))
        unwanted = [
            clause
            for name, value in self.none_of
            if not _is_in_text(name, value) and (clause := _clause(schema, name, value)) is not None
        ]
        if unwanted:
            out.append(_all_but(schema, unwanted))
        return [query.const_score_query(clause, 0.0) for clause in out]


NO_FILTERS = Filters()
_PASSES: dict[str, Callable[[Row, str], bool]] = {
    "session": lambda row, value: row.session == value,
    "project": matching.in_project,
    "assistant": lambda row, value: matching.has_name(matching.names(row.assistant), value),
    "kind": lambda row, value: bool(row.edit) if value == EDIT else row.kind == value,
    "tool": lambda row, value: matching.has_name(matching.tool_names(row.tool), value),
    "file": matching.has_file,
    "actor": lambda row, value: matching.has_name(matching.names(row.actor), value),
    "branch": lambda row, value: matching.has_name(matching.names(row.branch), value),
    "phrase": matching.has_phrase,
    "word": matching.has_word,
}


def _is_in_text(name: str, value: str) -> bool:
    """Whether only a row's text says that it matches."""
    return name == "phrase" or (name == "word" and matching.word_token(value) is None)


def _clause(schema: tantivy.Schema, name: str, value: str) -> tantivy.Query | None:
    """The documents that match a value or, if only their text says so, may; None where every document may."""
    query = tantivy.Query
    if name == "session":
        return query.term_query(schema, "session", number_of(value))
    if name == "project":
        if matching.is_absolute(value):
            folder = value.rstrip("/\\")
            if not folder:
                return _regex(schema, "under", r"[/\\](.|\n)*", value)
            return query.term_query(schema, "under", folder, "basic")
        return _regex(schema, "under", matching.project_pattern(value), value)
    if name == "kind":
        return query.term_query(schema, "kind", value, "basic")
    if name == "file":
        pattern = matching.file_pattern(value)
        if pattern is None:
            return query.term_query(schema, "file", matching.file_term(value), "basic")
        return _regex(schema, "file", pattern, value)
    if name in ("assistant", "tool", "actor", "branch"):
        if matching.has_glob(value):
            return _regex(schema, name, matching.glob_pattern(value.lower(), path=False), value)
        return query.term_query(schema, name, value.lower(), "basic")
    token = matching.word_token(value) if name == "word" else None
    if token is not None:
        return _in_any_field(schema, token)
    words = exact_words(value)
    if len(words) > 1:
        return query.phrase_query(schema, "exact", [*words])
    return query.term_query(schema, "exact", words[0][1], "basic") if words else None


def every_row(schema: tantivy.Schema) -> tantivy.Query:
    """All documents of the rows' index that are rows."""
    return _all_but(schema, [])


def _all_but(schema: tantivy.Schema, unwanted: list[tantivy.Query]) -> tantivy.Query:
    query = tantivy.Query
    no_row = query.term_query(schema, "special", WATERMARK, "basic")
    out = [(tantivy.Occur.MustNot, clause) for clause in (no_row, *unwanted)]
    return query.boolean_query([(tantivy.Occur.Must, query.all_query()), *out])


def _in_any_field(schema: tantivy.Schema, token: str) -> tantivy.Query:
    return _any([tantivy.Query.term_query(schema, field, token, "basic") for field in FIELDS])


def _any(queries: list[tantivy.Query]) -> tantivy.Query:
    if len(queries) == 1:
        return queries[0]
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, query) for query in queries])


def _times(schema: tantivy.Schema, low: int, high: int) -> tantivy.Query:
    return tantivy.Query.range_query(
        schema, "occurred_at", tantivy.FieldType.Integer, low, high, include_upper=False
    )


def _regex(schema: tantivy.Schema, field: str, pattern: str, value: str) -> tantivy.Query:
    try:
        return tantivy.Query.regex_query(schema, field, pattern)
    except ValueError:  # tantivy bounds what it compiles
        name = "project" if field == "under" else field
        raise InputError(f"{name}: {value[:80]!r}… is too long a pattern; give less of it") from None


def filters_of(
    *,
    session: Wanted = None,
    project: Wanted = None,
    assistant: Wanted = None,
    kind: Wanted = None,
    tool: Wanted = None,
    file: Wanted = None,
    actor: Wanted = None,
    branch: Wanted = None,
    regex: Wanted = None,
    after: int | None = None,
    before: int | None = None,
) -> Filters:
    """Filters of parameters. Sessions are full ids, kinds tags or `EDIT`."""
    wanted = {
        "session": session,
        "project": project,
        "assistant": assistant,
        "kind": kind,
        "tool": tool,
        "file": file,
        "actor": actor,
        "branch": branch,
    }
    groups = [(name, several(values)) for name, values in wanted.items()]
    patterns = several(regex)
    return Filters(
        any_of=tuple((name, values) for name, values in groups if values),
        after=after,
        before=before,
        patterns=(patterns,) if patterns else (),
    )


def several(wanted: Wanted) -> tuple[str, ...]:
    """The wanted values, without what no row can have."""
    values = (wanted,) if isinstance(wanted, str) else tuple(wanted or ())
    return tuple(value.encode("utf-8", "replace").decode().replace("\0", "\ufffd") for value in values)


def project_sql(folder: str) -> tuple[str, list[Any]]:
    """Whether a column `project` is a folder or lies below it, as SQL."""
    folder = folder.rstrip("/\\")
    below = "(rtrim(project, '/\\') = ? OR starts_with(project, ? || '/') OR starts_with(project, ? || '\\'))"
    return below, [folder, folder, folder]


def named_project_sql(value: str) -> tuple[str, list[Any]]:
    """The same for a folder or the name of one."""
    if matching.is_absolute(value):
        return project_sql(value)
    return "regexp_full_match(project, ?)", [matching.below_pattern(value)]


def any_project_sql(values: Sequence[str]) -> tuple[str, list[Any]]:
    """The same for any of several."""
    parts = [named_project_sql(value) for value in values]
    return f"({' OR '.join(sql for sql, _ in parts)})", [p for _, parameters in parts for p in parameters]
