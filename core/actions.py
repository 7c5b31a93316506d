"""Typed actions: what interpretation makes of captured events. Frozen, tagged, plain data.

`key` decides what is one fact (FORMAT.md section 6). Where a fact has no id of its own, interpretation gives a key that
ends in `:` and the projection completes it with the order (how many earlier facts of that session, source and kind had
the same text). `text` is what a person would want to find again, whole; `excerpt`s are cut from it later.
"""

import hashlib

import msgspec


class Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """What all actions share."""

    key: str
    session: str
    assistant: str
    occurred_at: int  # µs since the epoch, 0 where unknown
    actor: str  # user | assistant | tool | system | agent:<id>
    record: str  # the source's own id of the turn (a transcript uuid, a tool_use_id, a prompt_id), else event id hex
    project: str = ""  # working folder at that moment
    branch: str = ""
    parent: str = ""  # the source's id of the turn before, where it says so
    text: str = ""

    @property
    def text_digest(self) -> str:
        """16 hex digits; lets two reports of one prompt or reply meet that share no id."""
        return text_digest(self.text)


_last = (
    "",
    hashlib.sha256(b"").hexdigest()[:16],
)  # the same text is asked for twice in a row: for its key, for its row


def text_digest(text: str) -> str:
    """16 hex digits of SHA-256 over the text without surrounding white space."""
    global _last
    known, digest = _last
    if text is not known:
        digest = _digest(text)
        _last = (text, digest)
    return digest


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]


class PromptSubmitted(Action, frozen=True):
    """A person's prompt (not a tool result, not injected context)."""


class AssistantReplied(Action, frozen=True):
    """One text block of the assistant."""

    message_id: str = ""
    model: str = ""


class AssistantThought(Action, frozen=True):
    """One thinking block that has text."""

    message_id: str = ""
    model: str = ""


class ToolCalled(Action, frozen=True):
    """A tool call. `text`: command, pattern, url, prompt… in readable form."""

    tool: str
    tool_use_id: str = ""
    files: tuple[str, ...] = ()
    command: str = ""  # of shells
    edit_text: str = ""  # old and new text of edits, content of writes


class ToolReturned(Action, frozen=True):
    """A tool's result."""

    tool: str = ""  # "" where the record does not say; views join it by tool_use_id
    tool_use_id: str = ""
    files: tuple[str, ...] = ()
    is_error: bool = False


class ContextCompacted(Action, frozen=True):
    """The context was compacted; `text` is the assistant's summary where there is one."""

    trigger: str = ""  # auto | manual


class SessionStarted(Action, frozen=True):
    """A session began or was picked up."""

    reason: str = ""  # startup | resume | clear | compact | fork
    model: str = ""


class SessionEnded(Action, frozen=True):
    """A session ended, as the assistant reported it."""

    reason: str = ""


class SessionCheckpointed(Action, frozen=True):
    """A checkpoint of a session; `text` is the note that was added to it."""

    reason: str = ""  # compact | asked | end


class SessionTitled(Action, frozen=True):
    """A title or a summary of a session; the last of the strongest origin wins."""

    origin: str  # custom | ai | summary | agent
    leaf: str = ""  # of a summary: the record whose session it describes


class UsageReported(Action, frozen=True):
    """Tokens of one model message. Several lines of a message report it: count the last once."""

    message_id: str
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class ReflectionRemembered(Action, frozen=True):
    """A stored reflection."""

    tags: tuple[str, ...] = ()


class FactsForgotten(Action, frozen=True):
    """Facts whose keys must stay hidden whatever reports them again."""

    positions: tuple[int, ...] = ()
    action_keys: tuple[str, ...] = ()
    texts: tuple[
        tuple[int, str, str], ...
    ] = ()  # position, kind, text digest of what keeps its place in the order


class ContextNoted(Action, frozen=True):
    """Worth keeping, not worth ranking with prompts: notices, attachments, injected text, local command output."""

    origin: str  # the source's own name for it


class RecordUnknown(Action, frozen=True):
    """A record of a type this version does not know. Kept raw in the log; `origin` is its type as found."""

    origin: str


AnyAction = (
    PromptSubmitted
    | AssistantReplied
    | AssistantThought
    | ToolCalled
    | ToolReturned
    | ContextCompacted
    | SessionStarted
    | SessionEnded
    | SessionCheckpointed
    | SessionTitled
    | UsageReported
    | ReflectionRemembered
    | FactsForgotten
    | ContextNoted
    | RecordUnknown
)
