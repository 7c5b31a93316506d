"""What `audit log` writes: text, JSON lines, Markdown, Parquet; row by row, so that any length fits in memory."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.audit import AuditRow, Totals
from session_mgmt_mcp.tools.render import SHORT_ID, iso, label, minute

FORMATS = ("text", "jsonl", "parquet", "markdown")
PARQUET_ROWS = 4096
_MARKDOWN_HEAD = "| position | time | session | project | actor | what kind | files | what |\n|---:|---|---|---|---|---|---|---|\n"


def row_json(row: AuditRow) -> dict[str, Any]:
    """A row for machines; times in ISO 8601."""
    return {
        "position": row.position,
        "occurred_at": iso(row.occurred_at),
        "session": row.session,
        "assistant": row.assistant,
        "project": row.project,
        "actor": row.actor,
        "kind": row.kind,
        "tool": row.tool,
        "files": list(row.files),
        "is_error": row.is_error,
        "what": row.what,
        "event_id": row.event_id,
    }


def write_rows(rows: Iterable[AuditRow], form: str, output: Path | None) -> int:
    """Write to `output`, whole or not at all, or to stdout; how many rows.

    Raises InputError for Parquet without a file, OSError where it cannot be written.
    """
    if output is None:
        if form == "parquet":
            raise InputError("Parquet is no text: name a file with --output")
        return _WRITERS[form](rows, sys.stdout)
    with replacing(output) as temporary:
        if form == "parquet":
            return _parquet(rows, temporary)
        with open(temporary, "w", encoding="utf-8") as file:
            return _WRITERS[form](rows, file)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path`, durably, once all went well."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _text(rows: Iterable[AuditRow], file: IO[str]) -> int:
    count = 0
    for row in rows:
        count += 1
        failed = " failed" if row.is_error else ""
        touched = f"  [{', '.join(row.files)}]" if row.files else ""
        file.write(
            f"{row.position:>8}  {minute(row.occurred_at):16}  {row.session[:SHORT_ID]:{SHORT_ID}}  "
            f"{row.actor} · {label(row.kind, row.tool)}{failed}{touched}  {row.what}\n"
        )
    return count


def _json_lines(rows: Iterable[AuditRow], file: IO[str]) -> int:
    count = 0
    for row in rows:
        count += 1
        file.write(json.dumps(row_json(row)) + "\n")
    return count


def json_object(rows: Iterable[AuditRow], file: IO[str]) -> int:
    """One JSON object with all rows, written as they come."""
    count = 0
    file.write('{"rows": [')
    for row in rows:
        file.write((", " if count else "") + json.dumps(row_json(row)))
        count += 1
    file.write(f'], "count": {count}}}\n')
    return count


def _markdown(rows: Iterable[AuditRow], file: IO[str]) -> int:
    count = 0
    file.write(_MARKDOWN_HEAD)
    for row in rows:
        count += 1
        kind = label(row.kind, row.tool) + (" (failed)" if row.is_error else "")
        cells = (
            str(row.position),
            iso(row.occurred_at) or "",
            row.session,
            row.project,
            row.actor,
            kind,
            ", ".join(row.files),
            row.what,
        )
        file.write(f"| {' | '.join(map(_cell, cells))} |\n")
    return count


def _cell(text: str) -> str:
    """Text that ends no cell, no row, and is taken for no markup."""
    for sign in ("\\", "|", "`", "*", "_", "<", "[", "]"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _parquet(rows: Iterable[AuditRow], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("position", pa.int64()),
            ("occurred_at", pa.timestamp("us", tz="UTC")),
            *((name, pa.string()) for name in ("session", "assistant", "project", "actor", "kind", "tool")),
            ("files", pa.list_(pa.string())),
            ("is_error", pa.bool_()),
            ("what", pa.string()),
            ("event_id", pa.string()),
        ]
    )
    count = 0
    rows = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while part := list(islice(rows, PARQUET_ROWS)):
            records = [
                {name: getattr(row, name) for name in schema.names} | {"occurred_at": row.occurred_at or None}
                for row in part
            ]
            writer.write_table(pa.Table.from_pylist(records, schema=schema))
            count += len(part)
    return count


_WRITERS: dict[str, Callable[[Iterable[AuditRow], IO[str]], int]] = {
    "text": _text,
    "jsonl": _json_lines,
    "markdown": _markdown,
}


def print_totals(totals: Totals) -> None:
    print(f"{totals.rows} facts, {totals.errors} of them errors")
    for name, counts in (
        ("by actor", totals.actors),
        ("by kind", totals.kinds),
        ("by tool", totals.tools),
        ("by file", totals.files),
    ):
        if counts:
            print(f"\n{name}")
        for what, count in counts.items():
            print(f"{count:>9}  {what}")
    if totals.files_in_all > len(totals.files):
        print(f"           and {totals.files_in_all - len(totals.files)} more files")
