"""`audit log`: who did what when, filtered, in order, whole or not at all."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from session_mgmt_mcp.projections import audit
from session_mgmt_mcp.tools import audit_formats
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.maintenance import maintenance_lock

Run = Callable[..., Any]
ORDERS = "/home/mira/src/teashop/shop/orders.py"


def _positions(answer: dict[str, Any]) -> list[int]:
    return [row["position"] for row in answer["rows"]]


def test_every_fact_is_listed_once_in_order_with_the_id_of_its_event(
    imported: dict[str, Any], run: Run, app: App
) -> None:
    rows = run("audit", "log")["rows"]
    assert [row["position"] for row in rows] == list(range(1, imported["appended"] + 1))
    ids = {e.position: e.event_id.hex() for batch in app.log.read() for e in batch}
    assert {row["position"]: row["event_id"] for row in rows} == ids


def test_what_is_not_sealed_yet_is_listed_too(imported: dict[str, Any], run: Run, app: App) -> None:
    position = run("remember", "an unsealed thing", "--tag", "x")["position"]
    assert position > app.log.sealed().position
    [row] = run("audit", "log", "--kind", "ReflectionRemembered")["rows"]
    event = app.log.get([position])[position]
    assert (row["position"], row["what"], row["event_id"]) == (
        position,
        "an unsealed thing #x",
        event.event_id.hex(),
    )


def test_the_newest_are_kept_by_a_limit_and_the_oldest_of_them_comes_first(
    imported: dict[str, Any], run: Run
) -> None:
    last = imported["appended"]
    assert _positions(run("audit", "log", "--limit", "3")) == [last - 2, last - 1, last]
    assert _positions(run("audit", "log", "--since-position", str(last - 1))) == [last]


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (["--tool", "Edit"], lambda row: row["tool"] == "Edit"),
        (["--actor", "user"], lambda row: row["actor"] == "user"),
        (["--kind", "ToolReturned"], lambda row: row["kind"] == "ToolReturned"),
        (["--file", "orders.py"], lambda row: ORDERS in row["files"]),
        (["--file", "*/shop/o*.py"], lambda row: ORDERS in row["files"]),
        (["--file", ORDERS], lambda row: ORDERS in row["files"]),
        (["--file", "shop/orders.py"], lambda row: ORDERS in row["files"]),
        (["--session", "8e74"], lambda row: row["session"].startswith("8e74")),
        (["--project", "/home/mira"], lambda row: row["project"].startswith("/home/mira/")),
        (["--after", "2026-10-13T00:00+00:00"], lambda row: (row["occurred_at"] or "") >= "2026-10-13"),
        (
            ["--before", "2026-10-13T00:00+00:00"],
            lambda row: "2026" < (row["occurred_at"] or "") < "2026-10-13",
        ),
        (["--tool", "Edit", "--actor", "tool"], lambda row: (row["tool"], row["actor"]) == ("Edit", "tool")),
    ],
)
def test_a_filter_gives_exactly_the_rows_it_names(
    words: list[str], holds: Callable[[dict[str, Any]], bool], imported: dict[str, Any], run: Run
) -> None:
    wanted = [row for row in run("audit", "log")["rows"] if holds(row)]
    assert 0 < len(wanted) < imported["appended"]
    assert run("audit", "log", *words)["rows"] == wanted


def test_a_file_is_matched_by_whole_names_only(imported: dict[str, Any], run: Run) -> None:
    assert run("audit", "log", "--file", "rders.py")["rows"] == []


def test_an_unknown_kind_and_an_unknown_session_are_refused_by_name(
    imported: dict[str, Any], run: Run
) -> None:
    assert "ToolCalled" in run("audit", "log", "--kind", "Tool", code=2)["error"]["message"]
    assert "no session" in run("audit", "log", "--session", "zzz", code=2)["error"]["message"]
    assert run("audit", "log", "--limit", "0", code=2)["error"]["kind"] == "input"


def test_what_was_forgotten_by_whom_and_why_stands_at_its_place(
    imported: dict[str, Any], run: Run, data: Path
) -> None:
    from session_mgmt_mcp.core.log.forget import forget

    with App.open(data) as app, maintenance_lock(str(data), 0):
        forget(app.log, [4, 5, 7], lambda _: ["reply:x"], "a customer's name")
        tombstone = app.log.head().position
    after = run("remember", "later")["position"]
    rows = run("audit", "log", "--since-position", str(tombstone - 1))["rows"]
    assert [row["position"] for row in rows] == [tombstone, after]
    said = rows[0]
    assert (said["kind"], said["actor"]) == ("PayloadForgotten", "user")
    assert said["what"] == "forgot 3 payloads, at 4–5, 7: a customer's name"
    assert run("audit", "log", "--kind", "PayloadForgotten")["rows"] == [said]
    assert run("audit", "log", "--limit", "2")["rows"] == rows
    assert run("audit", "log", "--summary", "--session", "log")["kinds"]["PayloadForgotten"] == 1
    assert not {4, 5, 7} & set(_positions(run("audit", "log", "--tool", "Bash")))


def test_rows_come_a_stretch_at_a_time_and_none_is_lost_between(
    imported: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("audit", "log")
    monkeypatch.setattr(audit, "STRETCH_ROWS", 7)
    monkeypatch.setattr(audit_formats, "PARQUET_ROWS", 5)
    assert run("audit", "log") == whole


def test_every_format_holds_the_same_rows(imported: dict[str, Any], run: Run, tmp_path: Path) -> None:
    rows = run("audit", "log")["rows"]
    for form in ("jsonl", "parquet", "markdown", "text"):
        path = tmp_path / f"audit.{form}"
        done = run("audit", "log", "--format", form, "--output", str(path))
        assert done["count"] == len(rows)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert lines == rows
    table = pq.read_table(tmp_path / "audit.parquet")
    assert table.column("event_id").to_pylist() == [row["event_id"] for row in rows]
    assert table.column("files").to_pylist() == [row["files"] for row in rows]
    assert table.column("occurred_at").null_count == sum(row["occurred_at"] is None for row in rows)
    markdown = (tmp_path / "audit.markdown").read_text().splitlines()
    assert len(markdown) == len(rows) + 2
    assert all(line.replace("\\|", "").count("|") == 9 for line in markdown)
    assert len((tmp_path / "audit.text").read_text().splitlines()) == len(rows)


def test_parquet_needs_a_file(
    imported: dict[str, Any], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "log", "--format", "parquet"]) == 2
    assert "--output" in capsys.readouterr().err


def test_an_export_that_breaks_off_leaves_the_file_before_as_it_was(
    imported: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "audit.jsonl"
    path.parent.mkdir()
    path.write_text("as it was")

    def interrupted(row: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_formats, "row_json", interrupted)
    assert main(["audit", "log", "--format", "jsonl", "--output", str(path)]) == 130
    assert [p.name for p in path.parent.iterdir()] == ["audit.jsonl"]
    assert path.read_text() == "as it was"


def test_totals_add_up(imported: dict[str, Any], run: Run) -> None:
    rows = run("audit", "log")["rows"]
    totals = run("audit", "log", "--summary")
    assert totals["rows"] == len(rows) == sum(totals["actors"].values()) == sum(totals["kinds"].values())
    assert totals["errors"] == sum(row["is_error"] for row in rows)
    assert totals["files"][ORDERS] == sum(ORDERS in row["files"] for row in rows)
    assert totals["files_in_all"] == len({file for row in rows for file in row["files"]})
    assert run("audit", "log", "--summary", "--tool", "Bash")["tools"].keys() == {"Bash"}


def test_people_get_lines_and_a_hint_how_to_see_more(
    imported: dict[str, Any], data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from session_mgmt_mcp.tools.commands import audit as command

    monkeypatch.setattr(command, "TEXT_LIMIT", 5)
    assert main(["audit", "log"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 5
    assert "--limit" in said.err
    assert main(["audit", "log", "--summary"]) == 0
    assert "Bash" in capsys.readouterr().out


def test_a_text_with_line_breaks_and_control_characters_stays_one_line() -> None:
    assert audit.one_line("a\n\tb\x1b[31mc\0") == "a b [31mc "
    assert len(audit.one_line("x" * 10_000)) == 240
    cells = csv.reader(io.StringIO(audit_formats._cell("a|b\nc")), delimiter="|", escapechar="\\")
    assert list(cells) == [["a|b c"]]
