"""A secret told in every way a log can hold it, and the search for what is left of it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from session_mgmt_mcp.adapters.claude_code.capture import capture

SECRET = 'the "blue" heron-7731 nests\nbehind the mill'
PLAIN = "heron-7731"
FORMS = (
    PLAIN.encode(),
    SECRET.encode(),
    json.dumps(SECRET)[1:-1].encode(),
    json.dumps(json.dumps(SECRET))[1:-1].encode(),
)


def hook(session: str = "s-1", name: str = "UserPromptSubmit", **fields: Any) -> bytes:
    return json.dumps({"session_id": session, "cwd": "/shop", "hook_event_name": name, **fields}).encode()


def user(uuid: str, text: str, session: str = "s-1", **fields: Any) -> str:
    record = {
        "type": "user",
        "uuid": uuid,
        "sessionId": session,
        "cwd": "/shop",
        "timestamp": "2026-01-05T10:00:00Z",
    }
    return json.dumps({**record, "message": {"role": "user", "content": text}, **fields})


def reply(uuid: str, text: str, session: str = "s-1") -> str:
    block = [{"type": "text", "text": text}]
    message = {"id": f"m-{uuid}", "role": "assistant", "content": block}
    record = {"type": "assistant", "uuid": uuid, "sessionId": session, "cwd": "/shop", "message": message}
    return json.dumps({**record, "timestamp": "2026-01-05T10:00:01Z"})


def transcript(folder: Path, session: str, *lines: str) -> Path:
    path = folder / "claude" / "projects" / "-shop" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def report(data: Path, *payloads: bytes) -> None:
    """What hooks append."""
    for payload in payloads:
        capture(str(data), payload)


def left_in(folder: Path, needles: Iterable[bytes] = FORMS) -> list[str]:
    """Every file of a data folder that holds one of these, as bytes, in a column, or in an index's stored document."""
    wanted = list(needles)
    return [
        str(path.relative_to(folder))
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
        if any(needle in _content(path) for needle in wanted)
    ]


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        raw += b"\n".join(_bytes(value) for name in table.column_names for value in table[name].to_pylist())
    if path.suffix == ".duckdb":
        raw += _tables(path)
    return raw


def _tables(path: Path) -> bytes:
    import duckdb

    with duckdb.connect(str(path), read_only=True) as base:
        names = [name for (name,) in base.execute("SHOW TABLES").fetchall()]
        return b"\n".join(
            _bytes(value)
            for name in names
            for record in base.execute(f"SELECT * FROM {name}").fetchall()
            for value in record
        )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
