"""What people and assistants ask: search, timelines, sessions, status. Importing this loads no engine."""

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

import msgspec

from session_mgmt_mcp.core.errors import InputError, ViewDamagedError, ViewsBehindError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.results import Moments, SessionSummary, TimelinePage, ViewStatus

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.filters import Wanted
    from session_mgmt_mcp.projections.meaning import EmbedsQueries, Meaning
    from session_mgmt_mcp.projections.projects import Projects, ProjectsReader
    from session_mgmt_mcp.projections.query_files import QueryFiles
    from session_mgmt_mcp.projections.ranking import Weights
    from session_mgmt_mcp.projections.regex_search import TimeLimit
    from session_mgmt_mcp.projections.rows import Row
    from session_mgmt_mcp.projections.search import Search
    from session_mgmt_mcp.projections.story import Story
    from session_mgmt_mcp.projections.tail import QueryReader

LIMIT_MAX = 1000
BEHIND_EVERY_S = 30.0  # so often at most views are asked for that are not there
SCOPES_MAX, SCOPED_ROWS_MAX = (
    64,
    200_000,
)  # kept ready; each holds its rows' words in memory, some 2.5 KB a row
GIVEN_UP_MAX = 64  # of those that are not, as many calls as may still be at work with one

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
Scoped = TypeVar("Scoped", bound="Views")


def _without_damage(
    ask: "Callable[Concatenate[Views, Given], Answer]",
) -> "Callable[Concatenate[Views, Given], Answer]":
    """A question that is asked again, without a published file that turned out to be damaged."""

    @functools.wraps(ask)
    def answer(self: "Views", /, *args: Given.args, **named: Given.kwargs) -> Answer:
        try:
            return ask(self, *args, **named)
        except ViewsBehindError:
            self._have_views_built()
            raise
        except Exception as error:
            if not self._leaves_out(error):
                raise
        return ask(self, *args, **named)

    return answer


class Views:
    """Reads the published projections of a data folder, and the log beyond them. Safe to use from several threads.

    Every method first takes in what was appended or published since the last call.
    """

    def __init__(
        self,
        log: EventLog,
        folder: Path,
        embedder: "Callable[[], EmbedsQueries] | None" = None,
        weights: "Weights | None" = None,
        behind: Callable[[], None] | None = None,
    ) -> None:
        """`folder`: the data folder; nothing is opened or created before the first question. `embedder`: opens the model
        for searches by meaning, called when there are vectors to compare with; None: words alone. `weights`: other
        than those of `ranking`, to measure what each term is good for. `behind`: has the views built, without waiting for it;
        called before ViewsBehindError is raised.
        """
        self._log = log
        self._embedder = embedder
        self._weights = weights
        self._behind = behind
        self._behind_at = -BEHIND_EVERY_S  # when it was called last
        self._views = views_folder(folder)
        self._lock = threading.RLock()
        self._reader: QueryReader | None = None
        self._search: Search | None = None
        self._by_meaning: Meaning | None = None
        self._projects: ProjectsReader | None = None
        self._common_meaning: Meaning | None = None
        self._scoped: dict[tuple[str, ...], Views] = {}  # the last used one last
        self._given_up: deque[Views] = deque(maxlen=GIVEN_UP_MAX)

    def scoped(
        self, granted: tuple[str, ...], make: "Callable[[Views, tuple[str, ...]], Scoped]"
    ) -> "Scoped":
        """The same for somebody who may see these folders' projects alone: those kept from before, else what `make` makes of
        these views (`scoped_views.ScopedViews`, which builds on this module). Always the same `make`.
        """
        granted = tuple(sorted(set(granted)))
        with self._lock:
            views = cast("Scoped", self._scoped.pop(granted, None) or make(self, granted))
            self._scoped[granted] = views
            while len(self._scoped) > SCOPES_MAX or (
                len(self._scoped) > 1 and self._rows_held() > SCOPED_ROWS_MAX
            ):
                self._given_up.append(self._scoped.pop(next(iter(self._scoped))))
            for others in self._given_up:  # each time: a call that was at work with one opens it again
                others.close()
            return views

    def _rows_held(self) -> int:
        """Rows whose words are in this process's own memory."""
        return sum(views._rows_held() for views in self._scoped.values())

    @_without_damage
    def refresh(self) -> None:
        """Take in what was appended or published."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> "tuple[QueryReader, Search]":
        reader = self._refresh_reader()
        if self._search is None:
            from session_mgmt_mcp.projections.search import Search

            self._by_meaning = self._meaning()
            self._search = Search(self._log, self._views, reader, self._by_meaning, self._weights)
        self._search.refresh()
        return reader, self._search

    def _refresh_reader(self) -> "QueryReader":
        """Alone: what needs no words to be found does not wait for the indexes of those that do."""
        if self._reader is None:
            from session_mgmt_mcp.projections.tail import QueryReader

            self._reader = QueryReader(self._log, self._views)
        self._reader.refresh()
        return self._reader

    def _have_views_built(self) -> None:
        now = time.monotonic()
        if self._behind is not None and now - self._behind_at >= BEHIND_EVERY_S:
            self._behind_at = now
            self._behind()

    def _leaves_out(self, error: Exception) -> bool:
        with self._lock:
            return self._reader is not None and self._reader.leaves_out(error)

    def _meaning(self) -> "Meaning | None":
        """One for all who search: it holds the model."""
        if self._common_meaning is None and self._embedder is not None:
            from session_mgmt_mcp.projections.meaning import Meaning
            from session_mgmt_mcp.projections.vector_index import VectorIndex

            self._common_meaning = Meaning(lambda: VectorIndex(self._log, self._views), self._embedder)
        return self._common_meaning

    def _prepare(self) -> None:
        """What a search needs that takes long, done before others have to wait for it."""

    def _files(self) -> "QueryFiles":
        return self._refresh_reader().sql()

    @_without_damage
    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        session: "Wanted" = None,
        project: "Wanted" = None,
        assistant: "Wanted" = None,
        kind: "Wanted" = None,
        tool: "Wanted" = None,
        file: "Wanted" = None,
        actor: "Wanted" = None,
        branch: "Wanted" = None,
        regex: "Wanted" = None,
        after: int | None = None,
        before: int | None = None,
        plain: bool = False,
        time_limit: "TimeLimit | None" = None,
    ) -> Moments:
        """The best moments first; for a query of filters alone the newest first. `query`: see `query_language`, or
        `plain` words. What the parameters ask comes on top of it, each one value or any of several: `session`: an id or
        the beginning of one; `after`, `before`: µs since the epoch. `time_limit`: for what has to be looked for in the
        texts themselves.

        Raises InputError: an empty or malformed query or pattern, an unknown session or kind, a limit below 1.
        """
        from session_mgmt_mcp.projections.filters import NO_FILTERS, filters_of, several
        from session_mgmt_mcp.projections.kinds import kinds_of
        from session_mgmt_mcp.projections.query_language import parse
        from session_mgmt_mcp.projections.regex_search import check_pattern
        from session_mgmt_mcp.projections.sessions import resolve_session

        limit = _limit(limit)
        self._prepare()
        with self._lock:
            reader, search = self._refresh()

            def full(name: str) -> str:
                return resolve_session(self._files(), name)

            text, asked = (query, NO_FILTERS) if plain else parse(query, resolve=full, check=check_pattern)
            for pattern in several(regex):
                check_pattern(pattern)
            given = filters_of(
                session=[full(name) for name in several(session)],
                project=project,
                assistant=assistant,
                kind=[tag for name in several(kind) for tag in kinds_of(name)],
                tool=tool,
                file=file,
                actor=actor,
                branch=branch,
                regex=regex,
                after=after,
                before=before,
            )
            filters = asked.joined(given)
            if filters.names("project"):
                filters = self._projects_of(reader).widen(filters)
            return search.search(text, limit, filters, time_limit)

    @_without_damage
    def timeline(
        self,
        *,
        session: str | None = None,
        around: int | None = None,
        before: int = 10,
        after: int = 10,
        cursor: str = "",
        limit: int = 20,
    ) -> TimelinePage:
        """A stretch of a timeline: what a cursor points to, what lies around a position, the beginning of a session, or
        the newest turns of all sessions. Raises InputError.
        """
        from session_mgmt_mcp.projections import timeline
        from session_mgmt_mcp.projections.sessions import resolve_session

        limit = _limit(limit)
        with self._lock:
            files = self._files()
            if cursor:
                return timeline.follow(files, timeline.decode_cursor(cursor), limit)
            if around is not None:
                return timeline.around_position(files, around, max(0, before), max(0, after))
            if session is None:
                return timeline.log_page(files, limit)
            full = resolve_session(files, session)
            return timeline.session_page(files, full, 0, limit, timeline.session_order(files, full))

    @_without_damage
    def sessions(
        self, *, project: str | None = None, assistant: str | None = None, limit: int = 50
    ) -> list[SessionSummary]:
        """The sessions, the last active first. Of `project` in all its folders; each with the root of its project."""
        from session_mgmt_mcp.projections.sessions import list_sessions

        limit = _limit(limit)
        with self._lock:
            reader = self._refresh_reader()
            projects = self._projects_of(reader)
            wanted = projects.widened(project) if project is not None else ()
            found = list_sessions(reader.sql(), projects=wanted, assistant=assistant, limit=limit)
            return [msgspec.structs.replace(s, project=projects.root_of(s.project)) for s in found]

    @_without_damage
    def projects(self) -> "Projects":
        """Which working folders are one project, as of now."""
        with self._lock:
            return self._projects_of(self._refresh_reader())

    def _projects_of(self, reader: "QueryReader") -> "Projects":
        if self._projects is None:
            from session_mgmt_mcp.projections.projects import ProjectsReader

            self._projects = ProjectsReader()
        return self._projects.current(reader)

    @_without_damage
    def session(self, id_or_prefix: str) -> SessionSummary:
        """Raises InputError that names candidates where the id is unknown or ambiguous."""
        from session_mgmt_mcp.projections.sessions import resolve_session, session_summary

        with self._lock:
            files = self._files()
            return session_summary(files, resolve_session(files, id_or_prefix))

    def session_rows(self, id_or_prefix: str, upto: int | None = None) -> "Iterator[Row]":
        """A session's shown rows in the order they happened, those of events up to a position; read in pages, so that a
        long session takes little memory. Other questions may be asked meanwhile. Raises InputError.
        """
        from session_mgmt_mcp.projections.sessions import resolve_session
        from session_mgmt_mcp.projections.timeline import ROWS_AT_ONCE, session_order, session_rows

        def ordered(files: "QueryFiles") -> "tuple[str, list[int]]":
            full = resolve_session(files, id_or_prefix)
            return full, session_order(files, full, upto)

        full, order = self._asked(ordered)
        for start in range(0, len(order), ROWS_AT_ONCE):
            wanted = order[start : start + ROWS_AT_ONCE]
            yield from self._asked(functools.partial(session_rows, ids=wanted, session=full))

    @_without_damage
    def _asked(self, ask: "Callable[[QueryFiles], Answer]") -> "Answer":
        with self._lock:
            return ask(self._files())

    def story(self, id_or_prefix: str, upto: int | None = None, root: str = "") -> "Story":
        """What a session was about and came to, up to a position. `root`: its project's. Raises InputError."""
        from session_mgmt_mcp.projections.telling import session_story

        return session_story(self.session_rows(id_or_prefix, upto), root)

    def payload(self, position: int) -> bytes | None:
        """What the log holds at a position; None where there is nothing, or no more."""
        event = self._log.get([position]).get(position)
        return event.payload if event is not None else None

    @_without_damage
    def status(self) -> ViewStatus:
        """How far the views are, and what they hold."""
        from session_mgmt_mcp.projections.sessions import LOG_ASSISTANT
        from session_mgmt_mcp.projections.vector_status import vector_status

        with self._lock:
            reader, search = self._refresh()
            files = reader.sql()
            kinds = files.fetch("SELECT kind, count(*) FROM shown GROUP BY kind ORDER BY kind")
            unknown = files.fetch(
                "SELECT origin, count(*) FROM shown WHERE kind = 'RecordUnknown' GROUP BY origin ORDER BY origin"
            )
            sessions = files.fetch(
                f"SELECT count(DISTINCT session) FROM shown WHERE assistant <> '{LOG_ASSISTANT}'"
            )
            return ViewStatus(
                log_position=reader.position,
                query_watermark=reader.watermark.position,
                lexical_watermark=search.watermark,
                sessions=sessions[0][0],
                actions=sum(n for _, n in kinds),
                kinds=dict(kinds),
                unknown=dict(unknown),
                vectors=vector_status(self._log, self._views, files),
            )

    @contextmanager
    def reading(self) -> "Iterator[QueryFiles]":
        """The query view with the log's tail, as of now, for a longer read; other questions wait meanwhile.

        Raises ViewDamagedError where a published file turns out to be damaged: the next question does without it.
        """
        with self._lock:
            files = self._asked(lambda files: files)
            try:
                yield files
            except Exception as error:
                if not self._leaves_out(error):
                    raise
                what = "a file of the query view was damaged and is done without; ask again"
                raise ViewDamagedError(f"{self._views / 'query'}: {what}") from error

    def model(self) -> str:
        """How the model for queries stands (see `Meaning.model`), as of the last search; "" before the first. Does not wait."""
        meaning = self._by_meaning
        return meaning.model if meaning is not None else ""

    def close(self) -> None:
        """Close files; the next question opens them again."""
        with self._lock:
            for views in (*self._scoped.values(), *self._given_up):
                views.close()
            self._scoped.clear()
            self._given_up.clear()
            if self._reader is not None:
                self._reader.close()
            self._reader = self._search = self._by_meaning = self._projects = self._common_meaning = None


def _limit(limit: int) -> int:
    if limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1")
    return min(limit, LIMIT_MAX)
