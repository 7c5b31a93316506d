"""What views answer with. Plain frozen data; times are µs since the epoch, 0 where unknown."""

from collections.abc import Iterable

import msgspec


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One action of a session, as the timeline shows it."""

    session: str
    position: int
    record: str  # the source's own id of the turn
    occurred_at: int
    project: str
    assistant: str
    actor: str
    kind: str  # the action's tag: PromptSubmitted, ToolCalled, …
    tool: str = ""
    files: tuple[str, ...] = ()
    is_error: bool = False
    text: str = ""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A search result: a point in a session one can go back to."""

    session: str
    position: int
    record: str
    occurred_at: int
    project: str
    assistant: str
    actor: str
    kind: str
    tool: str = ""
    files: tuple[str, ...] = ()
    excerpt: str  # the part of the text around the matching words, one line
    marks: tuple[tuple[int, int], ...] = ()  # where it has matching words: start and end in characters
    score: float
    why: str  # which words matched where
    copies: int = 1  # results with the same text that were folded into this one


class Moments(list[Moment]):
    """A search's answer, best first; `note`: "" or what was left out, and the mend."""

    def __init__(self, moments: Iterable[Moment] = (), note: str = "") -> None:
        super().__init__(moments)
        self.note = note


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One session."""

    session: str
    assistant: str
    project: str  # the working folder most of its actions were in
    branch: str
    title: str  # its title, else its first prompt
    started_at: int
    ended_at: int
    prompts: int
    tool_calls: int
    actions: int
    first_position: int
    last_position: int


class TimelinePage(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a timeline. Cursors are opaque; empty where nothing more lies in that direction."""

    turns: tuple[Turn, ...]
    earlier: str = ""
    later: str = ""


class VectorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of the published vectors. A passage is a text that is embedded: a prompt, a part of a reply, a tool call."""

    passages: int  # that have a vector
    waiting: int  # about how many have none yet
    seconds_left: float | None = None  # to embed them, at the rate of late; None where that is not known
    rate: float = 0.0  # passages a second, of late
    model: str = ""
    unavailable: str = ""  # why nothing is embedded or found by meaning; "" where it can be
    scanned: str = ""  # why vectors are scanned without graphs; "" where graphs can be used


class ViewStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far the views are, and what they hold."""

    log_position: int
    query_watermark: int  # published; what lies beyond is read from the log's tail
    lexical_watermark: int
    sessions: int
    actions: int
    kinds: dict[str, int]
    unknown: dict[str, int]  # records of unknown type by their type
    vectors: VectorStatus
