"""`keys` as it is typed, and what the doctor says of the file."""

import json
import os
import stat
from pathlib import Path

import pytest

from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.tools import cli
from session_mgmt_mcp.tools.access_authenticator import KeyAuthenticator
from session_mgmt_mcp.tools.access_keys import FILE, read_keys
from session_mgmt_mcp.tools.doctor.run import diagnose


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


class Keys:
    """Runs the command and reads what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        try:
            found = cli.main(["keys", *words])
        except SystemExit as ended:
            found = int(ended.code or 0)
        printed = self._capsys.readouterr()
        assert found == code, printed.err
        return printed.out if code == 0 else printed.err


@pytest.fixture
def keys(data: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    return Keys(capsys)


MIRA = ("create", "mira", "--role", "writer", "--project", "/srv/mill")


def test_a_key_is_printed_once_alone_on_stdout_and_opens(keys: Keys, data: Path) -> None:
    text = keys(*MIRA).strip()
    found = KeyAuthenticator(data).authenticate(f"Bearer {text}", "")
    assert (found.name, found.role, found.projects) == ("mira", "writer", ("/srv/mill",))
    secret = text.rpartition("_")[2]
    assert secret not in keys("list") + keys("list", "--json")


def test_a_key_can_be_written_to_a_private_file_and_is_not_printed(
    keys: Keys, data: Path, tmp_path: Path
) -> None:
    said = json.loads(keys(*MIRA, "--to-file", str(tmp_path / "mira.key"), "--json"))
    text = (tmp_path / "mira.key").read_text().strip()
    assert stat.S_IMODE((tmp_path / "mira.key").stat().st_mode) == 0o600
    assert text not in json.dumps(said)
    assert KeyAuthenticator(data).authenticate(f"Bearer {text}", "").key_id == said["key"]["id"]
    assert "exists already" in keys(*MIRA, "--to-file", str(tmp_path / "mira.key"), code=2)
    assert len(read_keys(data)) == 1


def test_revoking_and_rotating_end_a_key(keys: Keys, data: Path) -> None:
    first, second = keys(*MIRA).strip(), keys(*MIRA).strip()
    assert "revoked" in keys("revoke", first.split("_")[1])
    rotated = keys("rotate", second.split("_")[1]).strip()
    door = KeyAuthenticator(data)
    for gone in (first, second):
        with pytest.raises(AccessError, match="revoked"):
            door.authenticate(f"Bearer {gone}", "")
    assert door.authenticate(f"Bearer {rotated}", "").name == "mira"
    assert "revoked" in keys("rotate", first.split("_")[1], code=2)


def test_every_act_is_in_the_audit(keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    made = keys(*MIRA).strip().split("_")
    keys("revoke", made[1], "--reason", "left the team")
    assert cli.main(["audit", "log"]) == 0
    told = capsys.readouterr().out
    assert f"key {made[1]} made for mira: writer, /srv/mill" in told
    assert f"key {made[1]} of mira revoked. left the team" in told
    assert made[2] not in told


@pytest.mark.parametrize(
    "words",
    [
        ("create", "mira", "--role", "writer"),
        ("create", "mira", "--role", "root", "--all-projects"),
        ("create", "mira", "--role", "reader", "--all-projects", "--project", "/srv"),
        ("create", "mira", "--role", "reader", "--all-projects", "--scope", "forget"),
        ("create", "mira", "--role", "reader", "--all-projects", "--scope", "everything"),
        ("create", "mira", "--role", "reader", "--all-projects", "--expires", "soon"),
        ("create", "mira", "--role", "reader", "--all-projects", "--expires", "2001-01-01"),
        ("create", "user", "--role", "reader", "--all-projects"),
        ("create", "mira", "--role", "reader", "--project", "/"),
    ],
)
def test_a_wrong_request_makes_nothing(keys: Keys, data: Path, words: tuple[str, ...]) -> None:
    keys(*words, code=2)
    assert not (data / FILE).exists() or read_keys(data) == ()


def test_a_key_that_is_not_there_is_neither_revoked_nor_rotated(keys: Keys, data: Path) -> None:
    keys(*MIRA)
    for words in (("revoke", "nope"), ("rotate", "nope"), ("revoke", "")):
        assert "keys list" in keys(*words, code=2)
    assert [key.revoked_at for key in read_keys(data)] == [0]


def test_a_malformed_file_is_named_and_not_overwritten(keys: Keys, data: Path) -> None:
    keys(*MIRA)
    (data / FILE).write_text("{")
    for words in (("list",), MIRA, ("revoke", "0")):
        assert str(data / FILE) in keys(*words, code=6)
    assert (data / FILE).read_text() == "{"


def test_the_doctor_looks_at_the_file(keys: Keys, data: Path) -> None:
    def found() -> list[str]:
        return [f"{f.severity}: {f.what}" for f in diagnose(data).findings if f.check == "keys"]

    made = keys(*MIRA).strip().split("_")[1]
    assert found() == []
    os.chmod(data / FILE, 0o644)
    assert "mode 0644" in found()[0]
    os.chmod(data / FILE, 0o600)
    keys("revoke", made)
    assert "no key opens anything" in found()[0]
    (data / FILE).write_text("[]")
    assert "malformed" in found()[0]
    assert not any("none of this program's" in f.what for f in diagnose(data).findings)
