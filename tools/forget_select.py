"""Which events a forgetting concerns: what its selectors name, their twins, and the blobs only they refer to."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core.blob_refs import orphaned_blobs
from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.projections.filters import project_sql
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.twins import twins_of
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.forget_match import Matcher, texts_of

SAMPLES_MAX = 20
LINE_CHARS_MAX = 100
_KEPT = (EventType.PAYLOAD_FORGOTTEN, EventType.LOG_FORKED)  # without them the log could not be understood
Say = Callable[[str, int, int], None]  # what is being done, how far, of how much


class _Transcripts(msgspec.Struct):
    transcript_path: str | None = None
    agent_transcript_path: str | None = None


class Selectors(NamedTuple):
    """What to forget; where several are given, only what all of them name."""

    positions: tuple[int, ...] = ()
    session: str | None = None  # a full id, or the beginning of one
    project: str | None = None  # a folder and all below it
    matcher: Matcher = Matcher()

    @property
    def scans(self) -> bool:
        """Whether the whole log has to be looked through."""
        return self.session is not None or self.project is not None or bool(self.matcher)


class Sample(NamedTuple):
    """One event as it is shown before it is forgotten; what the pattern matches is masked."""

    position: int
    occurred_at: int
    session: str
    what: str  # kind of its first action, else the type of the event
    line: str


class Selection(NamedTuple):
    """What was found up to position `head`."""

    head: int
    named: tuple[int, ...]  # by the selectors
    twins: tuple[int, ...]  # other events that tell the same facts
    blobs: tuple[int, ...]  # large contents nothing else refers to
    gone: int  # named, but forgotten before
    tombstones: tuple[int, ...]  # say what was forgotten, match, and cannot be forgotten
    sessions: dict[str, int]  # events by session
    transcripts: frozenset[str]  # the assistant's own files, as far as the events name them
    samples: tuple[Sample, ...]

    @property
    def positions(self) -> list[int]:
        """All of them, in order."""
        return sorted({*self.named, *self.twins, *self.blobs})


def select(app: App, selectors: Selectors, say: Say, *, after: int = 0) -> Selection:
    """What the selectors name beyond position `after`.

    Raises InputError: a position that does not exist or is a tombstone, an unknown session, LogCorruptError.
    """
    head = app.log.head().position
    absent = [p for p in selectors.positions if not 1 <= p <= head]
    if absent:
        raise InputError(f"position {absent[0]} is not in the log, which ends at {head}")
    test = _Test(app, selectors)
    found = _Found()
    if selectors.scans:
        for batch in app.log.read(after, head):
            for event in batch:
                found.take(event, test)
            say("looking through the log", batch[-1].position, head)
    else:
        for event in app.log.get(p for p in selectors.positions if p > after).values():
            found.take(event, test)
            if event.envelope.event_type in _KEPT:
                raise InputError(
                    f"position {event.position} says what was forgotten or where the log was forked; it has to stay"
                )
    if not after:
        test.raise_if_unknown(found)
    twins = twins_of(app.log, app.folder, found.named) if found.named else []
    blobs = orphaned_blobs(app.log, [*found.named, *twins]) - {*found.named, *twins} if found.named else set()
    sessions, transcripts = _where(app, [*found.named, *twins])
    return Selection(
        head,
        tuple(found.named),
        tuple(twins),
        tuple(sorted(blobs)),
        found.gone,
        tuple(found.tombstones),
        sessions,
        transcripts,
        _samples(app, found.named, selectors.matcher),
    )


class _Found:
    def __init__(self) -> None:
        self.named: list[int] = []
        self.tombstones: list[int] = []
        self.gone = 0

    def take(self, event: Event, test: "_Test") -> None:
        if not test.place(event):
            return
        if event.payload is None:
            self.gone += not test.matcher
        elif not test.matcher or test.matcher.matches(event.payload):
            kept = event.envelope.event_type in _KEPT
            (self.tombstones if kept else self.named).append(event.position)


class _Test:
    """Whether an event lies where the selectors say; what it says is the matcher's affair."""

    def __init__(self, app: App, selectors: Selectors) -> None:
        self.matcher = selectors.matcher
        self.positions = frozenset(selectors.positions)
        self.session = selectors.session
        self.of_session: frozenset[int] = frozenset()
        self.sessions: frozenset[str] | None = None
        self.of_project: frozenset[int] = frozenset()
        self._error: InputError | None = None
        if selectors.session is not None:
            self._find_session(app, selectors.session)
        if selectors.project is not None:
            self.sessions, self.of_project = _of_project(app, selectors.project)

    def _find_session(self, app: App, wanted: str) -> None:
        try:
            self.session = app.views.session(wanted).session
        except InputError as error:
            if "begin with" in str(error):
                raise
            self._error = error  # nothing of it is shown; it may have been forgotten, or say nothing
        with app.views.reading() as files:
            rows = files.fetch(
                f"SELECT DISTINCT id >> {ORDINAL_BITS} FROM all_rows WHERE session = ?", [self.session]
            )
        self.of_session = frozenset(r[0] for r in rows)

    def place(self, event: Event) -> bool:
        position, session = event.position, event.envelope.session
        if self.positions and position not in self.positions:
            return False
        if self.session is not None and session != self.session and position not in self.of_session:
            return False
        return self.sessions is None or session in self.sessions or position in self.of_project

    def raise_if_unknown(self, found: _Found) -> None:
        """Where no event at all is of the session that was named."""
        if self._error is not None and not found.named and not found.gone:
            raise self._error


def _of_project(app: App, project: str) -> tuple[frozenset[str], frozenset[int]]:
    """Sessions that were nowhere else, and the events of others that say they were there."""
    below, values = project_sql(project)
    with app.views.reading() as files:
        sessions = files.fetch(
            f"SELECT session FROM all_rows WHERE project <> '' GROUP BY session HAVING bool_and({below})",
            values,
        )
        rows = files.fetch(f"SELECT DISTINCT id >> {ORDINAL_BITS} FROM all_rows WHERE {below}", values)
    return frozenset(r[0] for r in sessions), frozenset(r[0] for r in rows)


def joined(app: App, planned: Selection, since: Selection) -> Selection:
    """What was planned and what was found since, with the twins there are by now."""
    sessions = Counter(planned.sessions)
    sessions.update(since.sessions)
    named = (*planned.named, *since.named)
    twins = twins_of(app.log, app.folder, named) if named else []
    return Selection(
        since.head,
        named,
        tuple(dict.fromkeys((*planned.twins, *since.twins, *twins))),
        tuple(dict.fromkeys((*planned.blobs, *since.blobs))),
        planned.gone,
        (*planned.tombstones, *since.tombstones),
        dict(sessions),
        planned.transcripts | since.transcripts,
        planned.samples,
    )


def _where(app: App, positions: Iterable[int]) -> tuple[dict[str, int], frozenset[str]]:
    """How many events of which sessions, and the transcripts they name."""
    sessions: Counter[str] = Counter()
    transcripts: set[str] = set()
    for event in events_at(app, positions):
        sessions[event.envelope.session] += 1
        if event.payload and b"transcript_path" in event.payload:
            transcripts.update(_named_transcripts(event.payload))
    return dict(sorted(sessions.items())), frozenset(transcripts)


def _named_transcripts(payload: bytes) -> Iterable[str]:
    with contextlib.suppress(msgspec.MsgspecError):
        said = msgspec.json.decode(payload, type=_Transcripts)
        yield from (path for path in (said.transcript_path, said.agent_transcript_path) if path)


def events_at(app: App, positions: Iterable[int]) -> Iterator[Event]:
    """The events there, a thousand in memory at a time."""
    ordered = sorted(positions)
    for start in range(0, len(ordered), 1000):
        yield from app.log.get(ordered[start : start + 1000]).values()


def _samples(app: App, positions: Iterable[int], matcher: Matcher) -> tuple[Sample, ...]:
    first = sorted(positions)[:SAMPLES_MAX]
    return tuple(_sample(event, matcher) for event in app.log.get(first).values())


def _sample(event: Event, matcher: Matcher) -> Sample:
    actions = interpret(event)
    told = next((a for a in actions if a.text.strip()), None)
    text = told.text if told is not None else next(texts_of(event.payload or b""), "")
    what = type(told).__name__ if told is not None else str(event.envelope.event_type)
    # Masked before it is cut: a match may go beyond the first line.
    line = (matcher.mask(text).strip().splitlines() or [""])[0]
    if len(line) > LINE_CHARS_MAX:
        line = line[: LINE_CHARS_MAX - 1] + "…"
    line = line.encode("utf-8", "replace").decode()
    return Sample(event.position, event.envelope.occurred_at, event.envelope.session, what, line)
