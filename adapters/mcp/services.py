"""What the MCP tools need from the program. The composition root implements it; tests give a fake."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, Unpack

from session_mgmt_mcp.adapters.mcp.caller import Caller

if TYPE_CHECKING:  # a server that is asked nothing loads no engine
    from session_mgmt_mcp.core.envelope import Event, Receipt
    from session_mgmt_mcp.projections.audit import AuditRow
    from session_mgmt_mcp.projections.permissions import Asked, Decision, Grant
    from session_mgmt_mcp.projections.results import Moments, SessionSummary, TimelinePage


class Narrowing(TypedDict, total=False):
    """What a search may be narrowed to, as in the query language."""

    session: str | None
    project: str | None
    assistant: str | None
    kind: str | None
    tool: str | None
    file: str | None
    actor: str | None
    branch: str | None
    after: int | None
    before: int | None


class AuditQuestion(NamedTuple):
    """Which rows of the audit are asked for; None: all."""

    file: str | None = None
    session: str | None = None
    project: str | None = None
    actor: str | None = None
    tool: str | None = None
    after: int | None = None
    before: int | None = None
    below: int | None = None  # only positions below this one: the page before another


class Told(NamedTuple):
    """A text composed from the record for a model, and what it is of ("" where that is unknown)."""

    text: str
    session: str
    project: str = ""


class Marked(NamedTuple):
    """A checkpoint or an end of a session that was stored, and what it says."""

    session: str
    position: int
    appended: bool  # False: it was stored before under the same key
    text: str
    score: int | None = None  # 0 to 100; None where nothing could be judged


class Choice(NamedTuple):
    """What to forget: where several are given, only what all of them name."""

    positions: tuple[int, ...] = ()
    session: str | None = None
    project: str | None = None
    query: str | None = None
    pattern: str | None = None


class Preview(NamedTuple):
    """What a forgetting would remove. `code` stands for exactly these events; "" where there are none."""

    code: str
    events: int
    other_reports: int  # of those, other reports of the same facts, and large contents only they refer to
    files: int  # other files of the data folder
    gone: int  # named, but forgotten before
    sessions: dict[str, int]  # events by session
    samples: tuple[tuple[int, int, str, str], ...]  # position, µs since the epoch, what, a masked line


class Forgotten(NamedTuple):
    """What became of a forgetting."""

    payloads: int
    transcripts: tuple[str, ...]  # the assistant's own files that still hold it
    findings: tuple[str, ...]  # what is left to do


class Services(Protocol):
    """Called from several worker threads at once. Filters that are None do not filter.

    Every method may raise SessionMgmtError; its message reaches the client as it is. A time is µs since the epoch:
    `after` is inclusive, `before` exclusive. `key`: the same key and content again stores nothing twice. A session may
    be given by the beginning of its id; where it is None, it is the one the caller's process belongs to.
    """

    def search(self, query: str, *, limit: int, **filters: Unpack[Narrowing]) -> "Moments":
        """The best moments for the query, best first; of filters alone, also within the query, the newest."""

    def timeline(
        self, *, session: str | None, around: int | None, cursor: str | None, limit: int
    ) -> "TimelinePage":
        """One of: a session from its start, the turns around a position (with it), or the page a cursor names."""

    def sessions(self, *, project: str | None, limit: int) -> "list[SessionSummary]":
        """The latest sessions, newest first."""

    def read_event(self, position: int) -> "Event | None":
        """The event as it was recorded, None where there is none at that position."""

    def audit(self, question: AuditQuestion, *, limit: int) -> "tuple[list[AuditRow], int | None]":
        """The newest rows, newest first, and below which position older ones go on (None: there are none)."""

    def start(self, caller: Caller, project: str | None, session: str | None, budget_tokens: int) -> Told:
        """What a session needs to know at its start: of the project, or of the session it takes up."""

    def checkpoint(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        """Store a mark of where the session stands."""

    def end(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        """Close the session with a handoff."""

    def handoff(self, caller: Caller, session: str | None) -> Told:
        """The handoff of a session as it stands; of None, of the project's latest session but the caller's own."""

    def status(self, caller: Caller) -> dict[str, Any]:
        """How far log and views are, what they hold, what is wrong; plain data that JSON can carry."""

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> "Receipt":
        """Store a reflection durably. The same key and content again is no error (`Receipt.appended` is False)."""

    def preview_forgetting(self, choice: Choice) -> Preview:
        """Look what would be forgotten, and change nothing."""

    def forget(self, choice: Choice, code: str, reason: str) -> Forgotten | Preview:
        """Forget what the code stands for; where that is not what would be forgotten now, the new preview."""

    def grants(self) -> "list[Grant]":
        """Every permission that was ever granted, in order."""

    def grant(self, caller: Caller, wanted: "Grant", key: str | None) -> "tuple[Grant, bool]":
        """Record a permission; False where the same one holds already."""

    def revoke(self, caller: Caller, grant: str, reason: str, key: str | None) -> "tuple[Grant, bool]":
        """Take a permission back, by its id or the beginning of it; False where it held no longer."""

    def check(self, caller: Caller, asked: "Asked") -> "Decision":
        """Whether a permission covers this operation now, and which one."""

    def complete(self, caller: Caller, what: str, prefix: str) -> list[str]:
        """Session ids (`what` = "session") or project folders ("project") that begin so, the latest first."""

    def close(self) -> None:
        """Let go of files. Called once at exit, possibly while another call still runs."""
