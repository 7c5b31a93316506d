"""A secret told in every way a log can hold it, and the search for what is left of it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from session_mgmt_mcp.adapters.claude_code.capture import capture
from session_mgmt_mcp.projections.lexical import open_indexes

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
    """Every file of a folder that holds one of these: as bytes, in a column of a Parquet or DuckDB file (whatever its name),
    or in the documents of a lexical index (then its folder).
    """
    wanted = list(needles)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    indexes = {path.parent.parent for path in files if path.name == "meta.json"}
    return [
        str(path.relative_to(folder))
        for path, content in (
            *((p, _content(p)) for p in files),
            *((i, _documents(i)) for i in sorted(indexes)),
        )
        if any(needle in content for needle in wanted)
    ]


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw[:4] == b"PAR1":
        table = pq.read_table(pa.BufferReader(raw))
        return raw + b"\n".join(
            _bytes(value) for name in table.column_names for value in table[name].to_pylist()
        )
    return raw + _tables(path) if raw[8:12] == b"DUCK" else raw


def _documents(folder: Path) -> bytes:
    """What a lexical index keeps in compressed blocks."""
    return b"\n".join(stored for index in open_indexes(folder) for stored in index.stored())


def _tables(path: Path) -> bytes:
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
