"""What interpretation makes of a small session, hooks and records, is written down; a change must be meant.

After a change that is meant, raise INTERPRETATION_VERSION and write the file anew: `python tests/projections/test_golden.py`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from session_mgmt_mcp.core.envelope import Envelope, Event, EventType
from session_mgmt_mcp.projections.rows import interpret_event

FIXTURES = Path(__file__).parents[1] / "adapters" / "fixtures"
GOLDEN = Path(__file__).with_name("golden_rows.jsonl")
NOON = 1_770_000_000_000_000
SOURCES = {
    "mill_hooks.jsonl": ("hook", EventType.HOOK_REPORTED),
    "mill_session.jsonl": ("record", EventType.RECORD_IMPORTED),
}
ODD = [  # beside what a session usually holds
    b'{"type": "user", "uuid": "o-1", "message": {"content": "<command-name>/clear</command-name>"}}',
    b'{"type": "user", "uuid": "o-2", "isSidechain": true, "message": {"content": "look into it"}}',
    (
        b'{"type": "user", "uuid": "o-3", "message": {"content": [{"type": "tool_result", "tool_use_id": "t", '
        b'"is_error": true, "content": [{"type": "text", "text": "no such file"}, {"type": "image"}]}]}}'
    ),
    (
        b'{"type": "assistant", "uuid": "o-4", "message": {"id": "m", "model": "x", "usage": {"output_tokens": 7}, '
        b'"content": [{"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "id": "t2", "name": "Edit", "input": '
        b'{"file_path": "/a/b.py", "old_string": "one", "new_string": "two\\u0000three"}}, {"type": "hologram"}]}}'
    ),
    b'{"type": "system", "uuid": "o-5", "subtype": "compact_boundary", "compactMetadata": {"trigger": "auto"}}',
    b'{"type": "system", "uuid": "o-6", "subtype": "api_error", "error": {"error": {"message": "overloaded"}}}',
    b'{"type": "summary", "summary": "Green \\ud83d builds", "leafUuid": "o-4"}',
    b'{"type": "attachment", "uuid": "o-7", "attachment": {"type": "queued_command", "prompt": "and then?"}}',
    b'{"type": "never-seen", "uuid": "o-8", "content": "kept"}',
    b"no json at all",
]


def interpreted() -> list[dict[str, Any]]:
    """The rows and tokens of every event of the fixtures, one object an event."""
    payloads = [(name, line) for name in SOURCES for line in (FIXTURES / name).read_bytes().splitlines()]
    payloads += [("mill_session.jsonl", line) for line in ODD]
    out = []
    for position, (name, line) in enumerate(payloads, 1):
        source, kind = SOURCES[name]
        envelope = Envelope("claude-code/s-1", kind, 1, NOON, NOON * (source == "record"), "unknown", source)
        found = interpret_event(Event(position, position.to_bytes(16, "big"), envelope, line))
        rows = [{k: v for k, v in row._asdict().items() if v} for row in found.rows]
        out.append({"rows": rows, "usage": [u._asdict() for u in found.usage]})
    return out


def _lines() -> list[str]:
    return [json.dumps(found, sort_keys=True) for found in interpreted()]


def test_every_event_comes_to_what_is_written_down() -> None:
    assert _lines() == GOLDEN.read_text("utf-8").splitlines()


if __name__ == "__main__":
    GOLDEN.write_text("".join(line + "\n" for line in _lines()), "utf-8")
    print(f"{len(_lines())} events", file=sys.stderr)
