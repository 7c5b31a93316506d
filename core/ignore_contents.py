"""Take what stands in ignored files out of a payload: a hook's JSON, a transcript's record, a line of another history.

The event stays, and the path in it; what was read, written or edited becomes `[ignored: <pattern>]`.
"""

import json

from session_mgmt_mcp.core.ignore import PATH_KEYS, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# of an object that names a file, these tell nothing of what is in it
_PLAIN_KEYS = frozenset(
    (
        *PATH_KEYS,
        *(
            "type",
            "name",
            "id",
            "tool_use_id",
            "tool_name",
            "kind",
            "actor",
            "session",
            "record",
            "call",
            "displayPath",
        ),
        *("replace_all", "offset", "limit", "numLines", "startLine", "totalLines", "mode", "is_error"),
    )
)
_DEPTH_MAX = 200
_CALLS_MAX = 200  # whose results have not come yet; few are under way at once


class Contents:
    """Takes contents out of payloads, one after another: a result is known by the id of the call that named the file."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._calls: dict[str, str] = {}  # id of a call of an ignored file -> the pattern
        self._ids: list[bytes] = []  # the same ids as payloads have them

    def without(self, payload: bytes, folder: str = "") -> bytes:
        """The payload without what stands in ignored files; the same object where there is nothing of them in it.

        `folder`: what relative paths are relative to. Text that is no JSON is left as it is.
        """
        if not (self._rules.named_in(payload) or self._names_call(payload)):
            return payload
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):
            return payload
        if not isinstance(value, dict):
            return payload
        cwd = value.get("cwd") or value.get("project") or folder
        changed = self._whole_event(value, cwd if isinstance(cwd, str) else folder)
        return json.dumps(value, separators=(",", ":")).encode() if changed else payload

    def _names_call(self, payload: bytes) -> bool:
        return any(call in payload for call in self._ids)

    def _learn(self, call: str, written: str, rule: str) -> None:
        if call not in self._calls:
            self._calls[call] = rule
            self._ids = [*self._ids[-_CALLS_MAX:], json.dumps(written).encode()]

    def _whole_event(self, event: "dict[str, Any]", folder: str) -> bool:
        rule = self._rule_of(event.get("tool_input"), folder)
        if rule:  # a hook's report of a tool: all of its answer comes from that file
            for key in ("tool_input", "tool_response", "tool_output", "error"):
                if key in event:
                    event[key] = self._emptied(event[key], rule)
            return True
        call = f"{event.get('session')}/{event.get('call')}"
        entry = self._rule_of({"files": event.get("files")}, folder)
        if entry and event.get("call") is not None:
            self._learn(call, str(event["call"]), entry)
        if entry := entry or self._calls.get(call, ""):  # a line of the generic format
            for key in ("text", "edit"):
                if event.get(key):
                    event[key] = _mark(entry)
            return True
        changed = self._walk(event, folder, 0)
        answered = self._answered(event)
        if answered and "toolUseResult" in event:
            event["toolUseResult"] = self._emptied(event["toolUseResult"], answered)
            changed = True
        return changed

    def _answered(self, event: "dict[str, Any]") -> str:
        """The pattern of the call that a transcript's record answers."""
        message = event.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == "tool_result":
                rule = self._calls.get(str(block.get("tool_use_id")), "")
                if rule:
                    return rule
        return ""

    def _walk(self, value: "Any", folder: str, depth: int) -> bool:
        """Empty every object within that names an ignored file, and every result of a call that did."""
        if depth > _DEPTH_MAX:
            return False
        if isinstance(value, list):
            return sum(self._walk(item, folder, depth + 1) for item in value) > 0
        if not isinstance(value, dict):
            return False
        if value.get("type") == "tool_result" and (
            rule := self._calls.get(str(value.get("tool_use_id")), "")
        ):
            value["content"] = _mark(rule)
            return True
        if value.get("type") == "tool_use" and (rule := self._rule_of(value.get("input"), folder)):
            self._learn(str(value.get("id")), str(value.get("id")), rule)
        rule = self._rule_of(value, folder)
        if rule:
            for key in value:
                if key not in _PLAIN_KEYS:
                    value[key] = self._emptied(value[key], rule)
            return True
        return sum(self._walk(item, folder, depth + 1) for item in value.values()) > 0

    def _rule_of(self, value: "Any", folder: str) -> str:
        """The pattern that a file named in an object matches."""
        if not isinstance(value, dict):
            return ""
        named: list[Any] = []
        for key in PATH_KEYS:
            paths = value.get(key)
            named += paths if isinstance(paths, list) else [paths]
        found = (self._rules.path(path, folder) for path in named if isinstance(path, str))
        return next((rule for rule in found if rule), "")

    def _emptied(self, value: "Any", rule: str) -> "Any":
        """All texts within replaced, but for the names of files and what is no content; of a list the first item stays."""
        if isinstance(value, str):
            return _mark(rule) if value else value
        if isinstance(value, list):
            return [self._emptied(value[0], rule)] if value else value
        if isinstance(value, dict):
            return {
                key: item if key in _PLAIN_KEYS else self._emptied(item, rule) for key, item in value.items()
            }
        return value


def _mark(rule: str) -> str:
    return f"[ignored: {rule}]"
