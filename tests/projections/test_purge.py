"""After forgetting, nothing of the text is left in the views, and they hold what a replay gives."""

from pathlib import Path

import pytest
from action_log import call, forgotten, prompt, reply
from memory_log import MemoryLog

from session_mgmt_mcp.projections import query_base
from session_mgmt_mcp.projections.publish import digest, purge, replay, update

SECRET = "xylophonesesame"


def files_with(folder: Path, needle: bytes) -> list[str]:
    """Files under `folder` that hold the bytes as they are, or in a Parquet or DuckDB column, or in a stored document."""
    import duckdb
    import pyarrow.parquet as pq

    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        if path.suffix == ".parquet":
            raw += repr(pq.read_table(path).to_pylist()).encode()
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                for (table,) in connection.execute("SHOW TABLES").fetchall():
                    raw += repr(connection.execute(f"SELECT * FROM {table}").fetchall()).encode()
        if needle in raw:
            found.append(str(path.relative_to(folder)))
    return found


@pytest.mark.parametrize("folded", [False, True])
def test_no_byte_of_a_forgotten_text_is_left_in_the_views(
    tmp_path: Path, folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folded:
        monkeypatch.setattr(query_base, "DELTA_ROWS_FREE", 0)
    log = MemoryLog()
    log.append([prompt("s-1", "u-1", f"the password is {SECRET}"), reply("s-1", "a-1", "Noted.")])
    log.append([call("s-1", "a-2", "t-1", "Bash", {"command": "make test"})])
    log.seal()
    update(log, tmp_path)
    assert files_with(tmp_path, SECRET.encode())
    leftover = tmp_path / "views" / "query" / "base-1.duckdb.tmp"
    leftover.write_text(SECRET)
    log.forget(1)
    log.append([forgotten((), (1,))])
    log.seal()
    purge(log, tmp_path, [1])
    assert files_with(tmp_path, SECRET.encode()) == []
    before = digest(tmp_path)
    assert replay(log, tmp_path) == before
