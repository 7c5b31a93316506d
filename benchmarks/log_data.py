"""Events for the log's benchmarks: seeded, shaped like a transcript's records, of mixed sizes."""

import json
import random
from collections.abc import Iterator

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, capture_id

SEED = 7
SESSION_EVENTS = 120
NOW_US = 1_770_000_000_000_000
_POOL = 3000
_WORDS = [
    "the",
    "file",
    "test",
    "error",
    "assert",
    "return",
    "import",
    "class",
    "def",
    "session",
    "memory",
    "query",
    "index",
    "token",
    "result",
    "tool",
    "call",
    "build",
    "parse",
    "cache",
    "lock",
    "retry",
    "server",
    "client",
    "branch",
    "merge",
    "commit",
    "review",
    "schema",
    "column",
    "segment",
    "journal",
    "deploy",
    "config",
]
# Kind, how often in 100, median of its text in bytes, spread: as in transcripts of Claude Code.
_KINDS = (
    ("prompt", 4, 300, 0.9),
    ("text", 14, 500, 0.7),
    ("thinking", 14, 900, 0.8),
    ("tool_use", 34, 500, 0.8),
    ("tool_result", 34, 1500, 1.1),
)
_TEXT_MAX = 60_000


def describe() -> str:
    kinds = ", ".join(f"{share} % {kind} of {median} B" for kind, share, median, _ in _KINDS)
    return f"records as of Claude Code, seed {SEED}, sessions of {SESSION_EVENTS}, text: {kinds} (medians, log-normal)"


def _texts(rnd: random.Random, median: int, spread: float) -> list[str]:
    out = []
    for _ in range(_POOL // len(_KINDS)):
        size = min(int(rnd.lognormvariate(0, spread) * median) + 1, _TEXT_MAX)
        words = " ".join(rnd.choices(_WORDS, k=size // 9 + 1)) + " " + rnd.randbytes(size // 6).hex()
        out.append(words[:size])
    return out


def _record(kind: str, uuid: str, session: str, number: int, text: str) -> dict[str, object]:
    stamp = f"2026-02-02T03:04:{number % 60:02d}.000Z"
    record: dict[str, object] = {
        "uuid": uuid,
        "sessionId": session,
        "timestamp": stamp,
        "cwd": "/home/x/project",
    }
    call = f"toolu_{session}_{number // 2}"
    if kind in ("prompt", "tool_result"):
        content: object = text
        if kind == "tool_result":
            content = [{"type": "tool_result", "tool_use_id": call, "content": text}]
        return {"type": "user", **record, "message": {"role": "user", "content": content}}
    block: dict[str, object] = {"type": kind, kind: text}
    if kind == "tool_use":
        command = {"command": text}
        block = {"type": "tool_use", "id": call, "name": "Bash", "input": command}
    usage = {"input_tokens": 10, "output_tokens": len(text) // 4}
    message = {"id": f"msg_{uuid}", "role": "assistant", "model": "m", "content": [block], "usage": usage}
    return {"type": "assistant", **record, "message": message}


def events(count: int, seed: int = SEED) -> Iterator[NewEvent]:
    """So many events, the same ones for the same seed."""
    rnd = random.Random(seed)
    texts = {kind: _texts(rnd, median, spread) for kind, _, median, spread in _KINDS}
    kinds = [kind for kind, share, _, _ in _KINDS for _ in range(share)]
    for number in range(count):
        session = f"bench-{seed}-{number // SESSION_EVENTS}"
        kind, uuid = rnd.choice(kinds), f"{seed}-{number}"
        record = _record(kind, uuid, session, number, rnd.choice(texts[kind]))
        moment = NOW_US + number * 1_000_000
        envelope = Envelope(
            f"claude-code/{session}", "RecordImported", 1, moment, moment, "unknown", "record"
        )
        yield NewEvent(capture_id("claude-code", "record", uuid), envelope, json.dumps(record).encode())


def pool(count: int = 2000) -> list[NewEvent]:
    """Events to take from again and again where only their sizes matter."""
    return list(events(count))
