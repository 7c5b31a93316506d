"""One fact once: which rows are shown where a hook, a transcript and its copies report the same thing.

Within a session a row is hidden if a better row has the same key, or is the same kind of prompt or reply with the same
text in the same place (n-th with that text). Better: the better source, then the earlier row; of documents, which are
rewritten, the later. A row that is hidden stays hidden when more rows follow, so hidden rows can be stored as a list
that only grows.

A prompt, reply or thought whose payload was forgotten keeps its place in the order of those with its text
(`leave_place`), so that the keys of the others stay what they were.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from session_mgmt_mcp.projections.rows import ORDINAL_BITS, RANKS, Row

SESSIONS_ROWS_MAX = 300_000  # whose facts are kept in memory; beyond, sessions are loaded anew when touched


_TOOL = Row._fields.index("tool")
_LAST_RANK = len(RANKS)  # of sources this version does not know


class Known(NamedTuple):
    """What must be known of an earlier row of a session; with an empty key, of a place that was left (`leave_place`)."""

    id: int
    key: str
    kind: str
    source: str
    text_digest: str
    tool: str
    tool_use_id: str


Fields = tuple[int, str, str, str, str, str, str]  # as Known has them
Order = tuple[int, int]  # source's rank, then id, of documents negated: smaller is better
Slot = TypeVar("Slot", bound=Hashable)
KINDS_WITH_TWINS = ("PromptSubmitted", "AssistantReplied")  # meet their twin by text where ids differ
KINDS_COUNTED = (*KINDS_WITH_TWINS, "AssistantThought")  # may have keys that want the order
_TEXT_KEYS = {"PromptSubmitted": "prompt", "AssistantReplied": "reply"}


def text_key(kind: str, session: str, digest: str, n: int) -> str:
    """The key by which a prompt or reply meets its twin that shares no id with it; "" for other kinds."""
    name = _TEXT_KEYS.get(kind)
    return f"{name}:{session}:{digest}:{n}" if name else ""


class _Session:
    __slots__ = ("by_key", "by_text", "counts", "last", "rows", "tools")

    def __init__(self) -> None:
        self.rows = 0
        self.last = 0  # id of the last row
        self.by_key: dict[str, Order] = {}
        self.by_text: dict[tuple[str, str, int], Order] = {}
        self.counts: dict[tuple[str, str, str], int] = {}
        self.tools: dict[str, str] = {}


class Facts:
    """Completes rows in order of their ids and tells which rows are hidden."""

    def __init__(
        self,
        load: Callable[[str], Iterable[Known]] | None = None,
        ids_of_keys: Callable[[list[str]], Iterable[int]] | None = None,
        forgotten: Iterable[str] = (),
        *,
        whole: bool = False,
    ) -> None:
        """`load` gives a session's earlier rows in order of id, `ids_of_keys` the ids of earlier rows with a key.

        `whole`: there are no earlier rows but those `prime` is given.
        """
        self.whole = whole
        self._load = load
        self._ids_of_keys = ids_of_keys
        self._sessions: dict[str, _Session] = {}
        self._rows = 0
        self.forgotten = set(forgotten)
        self.hidden: dict[int, int] = {}  # id -> position of the event that hid it

    def may_evict(self) -> bool:
        """Whether so much is kept that `evict` should be called once all rows so far can be loaded again."""
        return self._rows > SESSIONS_ROWS_MAX

    def evict(self) -> None:
        """Give up the sessions that were quiet for longest, down to half of what is kept."""
        self.whole = False
        for name in sorted(self._sessions, key=lambda name: self._sessions[name].last):
            if self._rows <= SESSIONS_ROWS_MAX // 2:
                break
            self._rows -= self._sessions.pop(name).rows

    def prime(self, rows: Iterable[tuple[str, Known]]) -> None:
        """Take in earlier rows, as (session, row) in order of id, instead of loading each session when it is touched."""
        for name, row in rows:
            session = self._sessions.get(name)
            if session is None:
                session = self._sessions[name] = _Session()
            self._place(session, row)
            self._rows += bool(row.key)

    def complete(self, row: Row) -> Row:
        """The row with its key, tool and `seq` filled in; `hidden` is brought up to date."""
        known = (row.id, row.key, row.kind, row.source, row.text_digest, row.tool, row.tool_use_id)
        key, tool, seq = self.place(row.session, known)
        # By place, not by `_replace`, which takes longer than all of the above.
        return Row._make((row.id, key, *row[2:_TOOL], tool, *row[_TOOL + 1 : -1], seq))

    def place(self, name: str, row: Fields) -> tuple[str, str, int]:
        """Completed key, tool and `seq` of the next row of session `name`; `hidden` is brought up to date."""
        session = self._sessions.get(name) or self._session(name)
        self._rows += 1
        tool, tool_use_id = row[5], row[6]
        if tool_use_id and not tool:
            tool = session.tools.get(tool_use_id, "")
        key, n, losers = self._place(session, row)
        if losers:
            at = row[0] >> ORDINAL_BITS
            for loser in losers:
                self.hidden.setdefault(loser, at)
        if self.forgotten and (key in self.forgotten or text_key(row[2], name, row[4], n) in self.forgotten):
            self.hidden.setdefault(row[0], row[0] >> ORDINAL_BITS)
        return key, tool, session.rows

    def leave_place(self, name: str, place: Known) -> None:
        """A row of session `name` whose payload was forgotten: those after it keep their order."""
        self._place(self._session(name), place._replace(key=""))

    def forget(self, keys: Iterable[str], at: int) -> None:
        """Hide every row with one of these keys, now and later."""
        new = [key for key in keys if key not in self.forgotten]
        self.forgotten.update(new)
        if self._ids_of_keys is not None and new and not self.whole:
            for row_id in self._ids_of_keys(new):
                self.hidden.setdefault(row_id, at)
        for session in self._sessions.values():
            for key in new:
                if key in session.by_key:
                    self.hidden.setdefault(abs(session.by_key[key][1]), at)

    def _session(self, name: str) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session()
            for known in self._load(name) if self._load is not None else ():
                self._place(session, known)
            self._rows += session.rows
        return session

    @staticmethod
    def _place(session: _Session, row: Fields) -> tuple[str, int, Sequence[int]]:
        """The completed key, the order (0 where none is counted), the rows that lose against another by this row."""
        row_id, key, kind, source, digest, tool, tool_use_id = row
        open_key = key[-1:] == ":"
        if kind in KINDS_COUNTED or open_key:
            slot = (kind, source, digest)
            n = session.counts[slot] = session.counts.get(slot, 0) + 1
            if open_key:
                key = f"{key}{n}"
        else:
            n = 0
        if not key:
            return key, n, ()
        session.rows += 1
        session.last = row_id
        mine = (RANKS.get(source, _LAST_RANK), -row_id if source == "document" else row_id)
        losers: Sequence[int] = ()
        if n and kind in KINDS_WITH_TWINS:
            losers = _contest(session.by_text, (kind, digest, n), mine)
        if key in session.by_key:
            losers = (*losers, *_contest(session.by_key, key, mine))
        else:
            session.by_key[key] = mine
        if tool and tool_use_id and kind == "ToolCalled":
            session.tools.setdefault(tool_use_id, tool)
        return key, n, losers


def _contest(best: dict[Slot, Order], slot: Slot, mine: Order) -> tuple[int, ...]:
    holder = best.get(slot)
    if holder is None or mine < holder:
        best[slot] = mine
        return () if holder is None else (abs(holder[1]),)
    return (abs(mine[1]),)
