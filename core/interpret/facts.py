"""What all actions of one event share, and the keys that decide what is one fact (FORMAT.md section 6)."""

from typing import Any

from session_mgmt_mcp.core.actions import Action, ContextNoted, PromptSubmitted, RecordUnknown, text_digest
from session_mgmt_mcp.core.envelope import Event


def string(value: Any) -> str:
    """`value` where it is text, else ""."""
    return value if isinstance(value, str) else ""


class Facts:
    """Collects the actions of one event. `shared` are the fields every action of it has."""

    def __init__(self, event: Event, *, record: str = "", uuid: str = "", **shared: str) -> None:
        envelope = event.envelope
        assistant, _, session = envelope.stream.partition("/")
        self.event = event
        self.session = session
        self.uuid = uuid
        self.shared: dict[str, Any] = {
            "session": session,
            "assistant": assistant,
            "occurred_at": envelope.occurred_at,
            "record": record or uuid or event.event_id.hex(),
            **shared,
        }
        self.actions: list[Action] = []
        self._others = 0

    def other_key(self) -> str:
        """The key of a fact that has no better one; distinct for each of an event's."""
        self._others += 1
        key = f"record:{self.uuid}" if self.uuid else f"event:{self.event.event_id.hex()}"
        return key if self._others == 1 else f"{key}:{self._others}"

    def text_key(self, kind: str, text: str) -> str:
        """The key of a prompt or reply without an id; the projection completes it with the order."""
        return f"{kind}:{self.session}:{text_digest(text)}:"

    def block_key(self, kind: str, message_id: str, text: str) -> str:
        """The key of a text block. Records do not number the blocks of a message, so its text does."""
        return f"{kind}:{message_id}:{text_digest(text)}" if message_id else self.text_key(kind, text)

    def add(self, action: type[Action], *, key: str = "", **fields: Any) -> None:
        self.actions.append(action(key=key or self.other_key(), **{**self.shared, **fields}))

    def note(self, origin: str, text: str, actor: str = "system") -> None:
        """Keep `text` as context; nothing where there is none."""
        if text and not text.isspace():
            self.add(ContextNoted, origin=origin, text=text, actor=actor)

    def prompt(self, text: str, prompt_id: str = "") -> None:
        key = f"prompt:{prompt_id}" if prompt_id else self.text_key("prompt", text)
        self.add(PromptSubmitted, key=key, text=text, actor="user")

    def unknown(self, origin: str, text: str = "") -> None:
        self.add(RecordUnknown, origin=origin, text=text, actor="system")
