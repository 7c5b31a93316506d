"""Everything a folder holds, as bytes: files as they are, and what is compressed in them as well."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from session_mgmt_mcp.projections.lexical import LexicalIndex, rows_schema, sessions_schema


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(what it is, its bytes) of every file, of every column of Parquet and DuckDB files, of every stored document."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = str(path.relative_to(folder))
            yield name, path.read_bytes()
            if path.suffix == ".parquet":
                yield from _parquet(name, path)
            if path.suffix == ".duckdb":
                yield from _duckdb(name, path)
        elif path.is_dir() and path.name in ("rows", "sessions") and (path / "meta.json").exists():
            schema = rows_schema() if path.name == "rows" else sessions_schema()
            index = LexicalIndex(path, schema)
            yield f"{path.relative_to(folder)} (stored)", b"\n".join(index.stored())


def _parquet(name: str, path: Path) -> Iterator[tuple[str, bytes]]:
    table = pq.read_table(path)
    for column in table.column_names:
        for value in table.column(column).to_pylist():
            if isinstance(value, bytes | str):
                yield (
                    f"{name}:{column}",
                    value if isinstance(value, bytes) else value.encode("utf-8", "replace"),
                )
            elif isinstance(value, list | dict):
                yield f"{name}:{column}", repr(value).encode()


def _duckdb(name: str, path: Path) -> Iterator[tuple[str, bytes]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"').fetchall():
                yield f"{name}:{table}", repr(row).encode("utf-8", "replace")
