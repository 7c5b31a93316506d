"""`audit sign` and `audit check`: what was signed is proven, and everything else is told apart."""

import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters import signing
from session_mgmt_mcp.core import audit as statements
from session_mgmt_mcp.core.audit import Part
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.frame import HEADER
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.ports import Head
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.auditing import Checked, check, sign
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.maintenance import maintenance_lock

from folder_copy import copy_folder  # isort: skip
from log_kit import events, seal_all  # isort: skip

Run = Callable[..., Any]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "k.pem"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sealed segments and a tail, several events a frame; copied, never used itself."""
    path = tmp_path_factory.mktemp("original") / "log"
    with FileLog(path, create=True) as log:
        for part in range(3):
            for frame in range(4):
                log.append(events(*(f"{part}-{frame}-{n}".encode() for n in range(1 + frame))))
            seal_all(log)
        log.append(events(b"tail"))
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    copy_folder(original, tmp_path / "log")
    return tmp_path / "log"


def _signed(folder: Path, key: Path, name: str = "statement.json") -> Path:
    path = key.parent / name
    statement = sign(folder, key).statement
    path.write_bytes(statements.encode(statement))
    return path


def _check(folder: Path, key: Path, *paths: Path) -> list[Checked]:
    return check(folder, paths, signing.public_path(key))


def _parts(found: Sequence[Checked]) -> list[Part | None]:
    return [checked.verdict.part for checked in found]


def test_a_statement_holds_and_says_how_much_was_appended_since(folder: Path, key: Path) -> None:
    path = _signed(folder, key)
    with FileLog(folder) as log:
        log.append(events(b"1", b"2"))
        log.append(events(b"3"))
    [found] = _check(folder, key, path)
    assert (found.verdict.part, found.verdict.appended_since) == (None, 3)


def test_a_statement_holds_after_sealing_merging_and_forgetting(folder: Path, key: Path) -> None:
    path = _signed(folder, key)
    with FileLog(folder) as log:
        for n in range(20):
            log.append(events(b"%d" % n))
            seal_all(log)
        before = len(log.reader.manifest().segments)
        assert len(compact(log.folder, log.log_id).segments) < before
        with maintenance_lock(str(folder), 0):
            forget(log, [2, 3, 20], lambda _: [], "gone")
    assert _parts(_check(folder, key, path)) == [None]


def test_a_statement_of_an_empty_log_holds_for_ever(tmp_path: Path, key: Path) -> None:
    folder = tmp_path / "empty"
    FileLog(folder, create=True).close()
    path = _signed(folder, key)
    assert json.loads(path.read_bytes())["position"] == 0
    with FileLog(folder) as log:
        log.append(events(b"first"))
        seal_all(log)
    [found] = _check(folder, key, path)
    assert (found.verdict.part, found.verdict.appended_since) == (None, 1)


def test_a_statement_changed_in_any_field_fails_by_its_signature(folder: Path, key: Path) -> None:
    path = _signed(folder, key)
    said = json.loads(path.read_bytes())
    for field in ("position", "chain", "signed_at", "log_id", "signature"):
        value = said[field]
        other = value + 1 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
        path.write_text(json.dumps({**said, field: other}))
        assert _parts(_check(folder, key, path)) == [Part.SIGNATURE], field


def test_another_key_is_told_from_a_changed_statement(folder: Path, key: Path, tmp_path: Path) -> None:
    path = _signed(folder, key)
    other = signing.load_or_make(tmp_path / "other.pem")
    [found] = check(folder, [path], signing.public_path(other.path))
    assert found.verdict.part is Part.SIGNATURE
    assert other.public.fingerprint in found.verdict.message and "--public-key" in found.verdict.message


def test_a_statement_of_another_log_fails_and_names_both(folder: Path, key: Path, tmp_path: Path) -> None:
    path = _signed(folder, key)
    with FileLog(tmp_path / "other", create=True) as other:
        other.append(events(b"x"))
        [found] = _check(tmp_path / "other", key, path)
        assert found.verdict.part is Part.LOG
        assert other.log_id in found.verdict.message


def test_a_log_shorter_than_what_was_signed_fails(folder: Path, key: Path) -> None:
    early = _signed(folder, key)
    tail = next((folder / "journal").iterdir())
    before = tail.read_bytes()
    with FileLog(folder) as log:
        log.append(events(b"lost"))
    late = _signed(folder, key, "late.json")
    tail.write_bytes(before)
    assert _parts(_check(folder, key, early, late)) == [None, Part.LENGTH]


def test_history_written_anew_fails_where_it_was_changed_and_holds_before(folder: Path, key: Path) -> None:
    """Somebody with all the program's powers but the key: another tail, with chain and checksums of its own."""
    early = _signed(folder, key)
    tail = next((folder / "journal").iterdir())
    before = tail.read_bytes()
    with FileLog(folder) as log:
        log.append(events(b"as it was"))
    late = _signed(folder, key, "late.json")
    tail.write_bytes(before)
    (folder / "tail.shm").unlink()  # it says where the longer journal ended
    with FileLog(folder) as log:
        log.append(events(b"as it was not"))
        seal_all(log)
    found = _check(folder, key, early, late)
    assert _parts(found) == [None, Part.CHAIN]
    assert f"up to position {found[0].verdict.position} it is as it was signed" in found[1].verdict.message


def test_a_damaged_segment_fails_by_its_name_and_leaves_earlier_statements_proven(
    folder: Path, key: Path
) -> None:
    path = _signed(folder, key)
    with FileLog(folder) as log:
        last_of_first = log.reader.manifest().segments[0].last
        chain = log.chain_at(last_of_first)
        assert chain is not None
        own = signing.load_or_make(key)
        early = statements.compose(
            log.log_id, log.log_id, Head(last_of_first, chain), now_us(), own.public.fingerprint, own.sign
        )
        damaged = folder / "segments" / log.reader.manifest().segments[1].file
    (key.parent / "early.json").write_bytes(statements.encode(early))
    damaged.chmod(0o600)
    raw = bytearray(damaged.read_bytes())
    raw[len(raw) // 3] ^= 4
    damaged.write_bytes(raw)
    found = _check(folder, key, key.parent / "early.json", path)
    assert found[0].verdict.part is None
    assert found[1].verdict.part is Part.DAMAGE
    assert damaged.name in found[1].verdict.message


def test_a_manifest_that_claims_another_chain_is_not_believed(folder: Path, key: Path) -> None:
    """The manifest is checked by `audit verify`; a statement is held against the events themselves."""
    from session_mgmt_mcp.core.log.recompute import recompute

    with FileLog(folder) as log:
        head = log.head()
        found = recompute(str(folder), log.reader.chain_at(0) or b"", [0, 1, 2, 3, head.position])
        assert found.chains[head.position] == head.chain
        assert 2 not in found.chains  # within a frame
        entry = log.reader.manifest().segments[0]
        assert recompute(str(folder), bytes(32), [entry.last]).differs.count(entry.file) == 1


def test_a_position_within_a_frame_is_never_what_was_signed(folder: Path, key: Path) -> None:
    own = signing.load_or_make(key)
    with FileLog(folder) as log:
        inside = statements.compose(
            log.log_id, log.log_id, Head(2, bytes(32)), now_us(), own.public.fingerprint, own.sign
        )
    path = key.parent / "inside.json"
    path.write_bytes(statements.encode(inside))
    assert _parts(_check(folder, key, path)) == [Part.CHAIN]


def test_the_tail_is_recomputed_from_its_journal(folder: Path, key: Path) -> None:
    path = _signed(folder, key)
    tail = next((folder / "journal").iterdir())
    raw = bytearray(tail.read_bytes())
    raw[HEADER.size + 70] ^= 1
    tail.write_bytes(raw)
    assert _parts(_check(folder, key, path)) == [Part.LENGTH]


def test_a_log_that_does_not_verify_is_not_signed(folder: Path, key: Path) -> None:
    from session_mgmt_mcp.core.errors import LogCorruptError

    segment = next((folder / "segments").glob("*.ids"))
    segment.chmod(0o600)
    raw = bytearray(segment.read_bytes())
    raw[-1] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(LogCorruptError, match=segment.name):
        sign(folder, key)
    assert not key.exists()


def test_a_key_is_private_made_once_and_not_within_the_data_folder(folder: Path, key: Path) -> None:
    first, again = sign(folder, key), sign(folder, key)
    assert (first.key.made, again.key.made) == (True, False)
    assert first.statement.key == again.statement.key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert signing.load_public(signing.public_path(key)).fingerprint == first.statement.key
    with pytest.raises(InputError, match="data folder"):
        sign(folder, folder / "key.pem")
    key.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        sign(folder, key)


def test_a_file_that_is_no_key_is_refused_and_left_as_it_is(folder: Path, key: Path) -> None:
    key.parent.mkdir()
    key.write_text("not a key")
    key.chmod(0o600)
    with pytest.raises(InputError, match="no private key"):
        sign(folder, key)
    assert key.read_text() == "not a key"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format": "session-mgmt-mcp statement"}',
        b'{"format": "session-mgmt-mcp statement", "version": 2}',
    ],
)
def test_a_file_that_is_no_statement_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(InputError, match=r"some\.json"):
        statements.decode(raw, "some.json")


def test_a_statement_with_something_added_or_malformed_is_refused(folder: Path, key: Path) -> None:
    said = json.loads(_signed(folder, key).read_bytes())
    with pytest.raises(InputError, match="comment"):
        statements.decode(json.dumps(said | {"comment": "x"}).encode(), "s.json")
    with pytest.raises(InputError, match="malformed"):
        statements.decode(json.dumps(said | {"chain": "zz"}).encode(), "s.json")


def test_the_commands_sign_check_and_verify(imported: dict[str, Any], run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "head.json")
    signed = run("audit", "sign", "--output", path)
    assert signed["key_made"] and signed["key_file"].startswith(str(tmp_path / "config"))
    assert signed["statement"]["position"] == imported["appended"]
    run("remember", "one more")
    answer = run("audit", "check", path)
    assert answer["ok"] and answer["statements"][0]["appended_since"] == 1
    assert run("audit", "verify")["events"] == imported["appended"] + 1
    assert "already" in run("audit", "sign", "--output", path, code=2)["error"]["message"]


def test_a_failed_check_exits_4_and_says_which_part(
    imported: dict[str, Any], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.json"
    run("audit", "sign", "--output", str(path))
    path.write_text(path.read_text().replace('"signature": "', '"signature": "A'))
    assert run("audit", "check", str(path), code=4)["statements"][0]["failed"] == "signature"
    assert main(["audit", "check", str(path)]) == 4
    assert "FAILED (signature)" in capsys.readouterr().out


def test_verify_exits_4_and_names_the_damaged_file(imported: dict[str, Any], run: Run, data: Path) -> None:
    segment = next((data / "segments").glob("*.parquet"))
    segment.chmod(0o600)
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.write_bytes(raw)
    error = run("audit", "verify", code=4)["error"]
    assert error["kind"] == "log_corrupt" and segment.name in error["message"]


def test_statements_of_the_log_a_fork_came_from_hold_up_to_the_fork(folder: Path, key: Path) -> None:
    """The same files under a new log id: what a point-in-time restore leaves, before it goes its own way."""
    with FileLog(folder) as log:
        origin, at = log.log_id, log.head()
    own = signing.load_or_make(key)
    before = statements.compose(origin, origin, at, now_us(), own.public.fingerprint, own.sign)
    after = statements.compose(origin, origin, Head(at.position + 1, bytes(32)), now_us(), "", own.sign)
    fork = "f" * 32
    found = statements.Recomputed({at.position: at.chain}, at.position)
    assert statements.judge(before, fork, found, at.position).holds
    verdict = statements.judge(after, fork, found, at.position)
    assert verdict.part is Part.LENGTH and origin in verdict.message and "parted" in verdict.message


def test_after_a_restore_to_an_earlier_point_only_statements_up_to_there_hold(
    imported: dict[str, Any], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late, store = (str(tmp_path / name) for name in ("early.json", "late.json", "store"))
    run("audit", "sign", "--output", early)
    run("remember", "after the point")
    run("audit", "sign", "--output", late)
    run("backup", store)
    run("restore", store, "--to", str(tmp_path / "fork"), "--position", str(imported["appended"]))
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "fork"))
    first, second = run("audit", "check", early, late, code=4)["statements"]
    assert first["ok"] and second["failed"] == "chain"
    assert "parted" in second["message"]
    assert "restored from a backup" in run("audit", "log", "--session", "log")["rows"][-1]["what"]


def test_text_for_people_says_the_proof_and_its_limits(
    imported: dict[str, Any], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.json"
    with App.open(data):
        assert main(["audit", "sign"]) == 0
    said = capsys.readouterr()
    path.write_text(said.out)
    assert "kept apart" in said.err and "made a new key" in said.err
    assert main(["audit", "check", str(path)]) == 0
    assert "0 events were appended since" in capsys.readouterr().out
