"""What people call the kinds of actions. Importing this loads no engine."""

from session_mgmt_mcp.core.errors import InputError

EDIT = "edit"  # beside the actions' tags a kind of its own: calls that changed a file
KINDS = {  # what people type -> tags of actions, or `EDIT`
    "prompt": ("PromptSubmitted",),
    "reply": ("AssistantReplied",),
    "thinking": ("AssistantThought",),
    "thought": ("AssistantThought",),
    "tool": ("ToolCalled",),
    "call": ("ToolCalled",),
    "result": ("ToolReturned",),
    "edit": (EDIT,),
    "title": ("SessionTitled",),
    "compaction": ("ContextCompacted",),
    "reflection": ("ReflectionRemembered",),
    "note": ("ReflectionRemembered", "ContextNoted"),
    "context": ("ContextNoted",),
    "start": ("SessionStarted",),
    "end": ("SessionEnded",),
    "checkpoint": ("SessionCheckpointed",),
    "unknown": ("RecordUnknown",),
}
_NAMES = {tag: name for name, tags in reversed(KINDS.items()) for tag in tags} | {
    "ToolCalled": "call",
    "ReflectionRemembered": "reflection",
}
_TAGS = {tag.lower(): (tag,) for tags in KINDS.values() for tag in tags}


def kinds_of(text: str) -> tuple[str, ...]:
    """Tags of actions, or `EDIT`, by a tag or a short name. Raises InputError that names all."""
    name = text.lower()
    found = KINDS.get(name) or KINDS.get(name.removesuffix("s")) or _TAGS.get(name)
    if found is None:
        raise InputError(f"no kind {text!r}; there are {', '.join(KINDS)}")
    return found


def name_of(kind: str) -> str:
    """What people call an action of this tag; the tag itself where there is no name for it."""
    return _NAMES.get(kind, kind)
