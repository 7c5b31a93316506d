"""Logs of every released format version are read for ever, and what a newer version wrote is refused, untouched."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import stored
import write
from log_kit import content, journal_paths, seal_all, snapshot

from session_mgmt_mcp.adapters.claude_code import hook
from session_mgmt_mcp.core.envelope import Event, NewEvent
from session_mgmt_mcp.core.errors import FormatTooNewError
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.forget import tombstones
from session_mgmt_mcp.core.log.frame import decode_header
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest, manifest_path
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

every_case = pytest.mark.parametrize("case", stored.cases())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def again(event: Event) -> NewEvent:
    return NewEvent(event.event_id, event.envelope, event.payload or b"")


# -- what is kept ------------------------------------------------------------------------------------------------


def test_every_kind_of_log_of_this_version_is_kept() -> None:
    assert {f"v1/{name}" for name in write.CASES} <= set(stored.cases())
    for name in stored.cases():
        assert (stored.HERE / name / "FORMAT.json").is_file()


@every_case
def test_a_log_of_an_earlier_program_is_read_as_it_was_and_left_as_it_is(case: str, folder: Path) -> None:
    before = snapshot(stored.materialise(case, folder))
    expected = stored.listing(case)
    assert stored.describe(folder) == expected
    with FileLog(folder) as log:
        found = verify(log.folder, log.log_id)
        assert [found.events, found.chain] == expected["head"]
        assert found.forgotten == len(expected["forgotten"])
        positions = [position for position, *_ in expected["events"]]
        assert log.get(positions) == {e.position: e for e in content(log)}
        assert log.chain_at(log.sealed().position) == log.sealed().chain
    assert snapshot(folder) == before


@every_case
def test_a_log_of_an_earlier_program_is_gone_on_with(case: str, folder: Path) -> None:
    """Its ids are known, its end is the place of the next event, its spool is drained, and all of it can be sealed."""
    stored.materialise(case, folder)
    expected = stored.listing(case)
    with FileLog(folder) as log:
        before = content(log)
        receipts = log.append([again(e) for e in before])
        assert [(r.position, r.appended) for r in receipts] == [(e.position, False) for e in before]
        assert log.append([write.hook("s-new", 1)])[0].position == len(before) + 1
        assert drain(log)[0] == len(expected["spooled"])
        assert seal_all(log).last == log.head().position == len(before) + 1 + len(expected["spooled"])
        assert content(log)[: len(before)] == before
        assert verify(log.folder, log.log_id).events == log.head().position


@every_case
def test_views_are_built_from_a_log_of_an_earlier_program(case: str, folder: Path) -> None:
    stored.materialise(case, folder)
    last = stored.listing(case)["head"][0]
    with App.open(folder) as app:
        app.maintain()
        state = app.status()
        assert state["position"] >= last
        assert state["sealed"] == state["position"]
        assert "s-1" in {summary.session for summary in app.views.sessions(project=None, limit=10)}


def test_both_versions_of_what_was_forgotten_say_the_same(tmp_path: Path) -> None:
    found: dict[str, list[PayloadForgotten]] = {}
    for name in ("forgotten-1", "forgotten-2"):
        with FileLog(stored.materialise(f"v1/{name}", tmp_path / name)) as log:
            found[name] = tombstones(log)
    [one], [two] = found.values()
    assert (one.positions, two.positions) == ((2, 9), (2, 3, 9))
    assert one.event_ids == (two.event_ids[0], two.event_ids[2])
    assert (one.reason, one.action_keys) == ("a key in it", ("record:u-1",))


@pytest.mark.parametrize("name", ["journals", "spooled"])
def test_this_program_still_writes_the_bytes_its_version_began_with(name: str, tmp_path: Path) -> None:
    """Whoever changes what is written here must give the format a new version. (Parquet files: the library's affair.)"""
    folder = tmp_path / name
    write.make(name, folder)
    kept = stored.materialise(f"v1/{name}", tmp_path / "kept")
    for part in ("FORMAT.json", "journal", "spool", "quarantine", "segments/*.ids"):
        written = {p.name: p.read_bytes() for p in _files(folder, part)}
        old = {p.name: p.read_bytes() for p in _files(kept, part)}
        if part == "segments/*.ids":  # named by the digest of the Parquet file beside it
            assert list(written.values()) == list(old.values())
        else:
            assert written == old, part


def _files(folder: Path, part: str) -> list[Path]:
    return sorted(folder.glob(part if "." in part else f"{part}/*"))


# -- what is newer -----------------------------------------------------------------------------------------------


def newer_format(folder: Path) -> None:
    line = (folder / "FORMAT.json").read_bytes()
    body = line.partition(b', "sha256"')[0].replace(b'"version": 1', b'"version": 2')
    digest = sha256(body).digest().hex().encode()
    (folder / "FORMAT.json").write_bytes(body + b', "sha256": "' + digest + b'"}\n')


def newer_manifest(folder: Path) -> None:
    version = load_manifest(str(folder)).version
    path = Path(manifest_path(str(folder), version))
    body = path.read_bytes().rpartition(b',"sha256"')[0].replace(b'"format_version":1', b'"format_version":2')
    body = body.replace(b'"chain_before"', b'"as_it_may_be_called_then"')
    path.write_bytes(body + b',"sha256":"' + sha256(body).digest().hex().encode() + b'"}\n')


def newer_journal(folder: Path) -> None:
    from zlib import crc32

    for path in journal_paths(folder):
        raw = bytearray(path.read_bytes())
        raw[8:12] = (2).to_bytes(4, "little")
        raw[124:128] = crc32(raw[:124]).to_bytes(4, "little")
        path.write_bytes(raw)


NEWER: dict[str, Callable[[Path], None]] = {
    "format": newer_format,
    "manifest": newer_manifest,
    "journal": newer_journal,
}


def entry_points(folder: Path, log_id: str) -> dict[str, Callable[[], object]]:
    """Each way to a log there is in one process."""

    def with_log(action: Callable[[FileLog], object]) -> Callable[[], object]:
        def ask() -> None:
            with FileLog(folder) as log:
                action(log)

        return ask

    def status() -> None:
        with App.open(folder) as app:
            app.status()

    return {
        "read": with_log(content),
        "head": with_log(lambda log: log.head()),
        "append": with_log(lambda log: log.append([write.hook("s-new", 1)])),
        "append as hooks do": lambda: Appender(str(folder)).append([(b"i" * 16, b"e", b"p")]),
        "verify": lambda: verify(str(folder), log_id),
        "seal": lambda: seal(str(folder), log_id),
        "status": status,
    }


@pytest.mark.parametrize("name", NEWER)
def test_what_a_newer_version_wrote_is_refused_by_whoever_reads_it_and_nothing_changes(
    name: str, folder: Path
) -> None:
    stored.materialise("v1/sealed", folder)
    with FileLog(folder) as log:
        log_id = log.log_id
        log.roll()
    NEWER[name](folder)
    before = snapshot(folder)
    asks = entry_points(folder, log_id)
    if name == "format":
        asks.pop("verify"), asks.pop("seal")  # they are told the id by whoever read FORMAT.json
    if name == "manifest":
        asks.pop("append as hooks do")  # a hook needs no manifest
    for what, ask in asks.items():
        with pytest.raises(FormatTooNewError, match=r"format 2.*(reads up to 1).*upgrade") as error:
            ask()
        assert str(folder) in str(error.value), what
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", NEWER)
def test_commands_refuse_a_newer_log_with_their_exit_code(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.materialise("v1/sealed", folder)
    NEWER[name](folder)
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    before = snapshot(folder)
    for command in (["status"], ["sessions"], ["search", "x"], ["maintain", "--once"], ["remember", "x"]):
        assert main([*command, "--json"]) == 3, command
        said = capsys.readouterr()
        assert json.loads(said.out)["error"]["kind"] == "format_too_new"
        assert re.search(r"format 2.*upgrade", said.err)
    after = {path: raw for path, raw in snapshot(folder).items() if not path.startswith("views/")}
    assert after == before


@pytest.mark.parametrize("name", ["format", "journal"])
def test_a_hook_of_an_older_program_says_one_line_and_changes_nothing(name: str, folder: Path) -> None:
    stored.materialise("v1/sealed", folder)
    NEWER[name](folder)
    before = snapshot(folder)
    command = [sys.executable, "-I", "-S", str(hook.__file__), "--data-dir", str(folder)]
    done = subprocess.run(command, input=b'{"session_id":"s"}', capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert re.fullmatch(
        rb"session-mgmt-mcp: this event was not captured: .*format 2.*upgrade.*\n", done.stderr
    )
    assert snapshot(folder) == before


def test_a_server_on_a_newer_log_answers_with_the_refusal(folder: Path) -> None:
    stored.materialise("v1/sealed", folder)
    newer_format(folder)
    before = snapshot(folder)
    code = (
        "from session_mgmt_mcp.tools.mcp_services import McpServices\n"
        "from session_mgmt_mcp.core.errors import FormatTooNewError\n"
        "try:\n    McpServices.open()\nexcept FormatTooNewError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "SESSION_MGMT_DATA_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "in format 2; this program reads up to 1: upgrade" in done.stdout
    assert snapshot(folder) == before


def test_a_newer_version_of_a_payload_is_kept_and_shown_as_something_unknown(folder: Path) -> None:
    """An event's meaning may be newer than the program: that refuses nothing."""
    stored.materialise("v1/sealed", folder)
    event = write.hook("s-new", 1)
    newer = event._replace(envelope=msgspec.structs.replace(event.envelope, schema_version=9))
    with App.open(folder) as app:
        position = app.log.append([newer])[0].position
        app.maintain()
        assert app.log.get([position])[position].envelope.schema_version == 9
        assert app.status()["position"] == position


def test_the_header_of_a_newer_journal_is_refused_by_name(folder: Path) -> None:
    stored.materialise("v1/journals", folder)
    newer_journal(folder)
    path = journal_paths(folder)[0]
    with pytest.raises(FormatTooNewError, match=path.name):
        decode_header(path.read_bytes()[:128], str(path))
