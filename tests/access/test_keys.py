"""The file of keys and who they let in: what opens, what does not any more, and what a damaged file does."""

import os
import stat
import threading
from pathlib import Path

import pytest

from session_mgmt_mcp.core.access import AccessError, Principal, Role
from session_mgmt_mcp.core.errors import InputError, SettingsError
from session_mgmt_mcp.tools import access_keys
from session_mgmt_mcp.tools.access_authenticator import KeyAuthenticator
from session_mgmt_mcp.tools.access_keys import FILE, NewKey, StoredKey, Wanted, read_keys

HOUR = 3_600_000_000
NOW = 1_800_000_000_000_000
READER = Wanted("mira", Role.READER, (), ("/srv/mill",))


def quiet(*_: object) -> None:
    """Nobody is told."""


def made(folder: Path, wanted: Wanted = READER, now: int = NOW) -> NewKey:
    return access_keys.create(folder, wanted, quiet, now)


class Door:
    """An authenticator with a clock that is set."""

    def __init__(self, folder: Path, admin_key_file: Path | None = None) -> None:
        self.now = NOW
        self.keys = KeyAuthenticator(folder, admin_key_file, clock=lambda: self.now)

    def opens(self, shown: str | None) -> Principal:
        return self.keys.authenticate(shown if shown is None else f"Bearer {shown}", "192.0.2.1")

    def refuses(self, shown: str | None) -> tuple[int, str]:
        with pytest.raises(AccessError) as refused:
            self.opens(shown)
        return refused.value.status, refused.value.reason


def test_a_key_opens_for_its_user_role_and_projects(tmp_path: Path) -> None:
    key = made(tmp_path)
    assert Door(tmp_path).opens(key.text) == key.stored.principal()
    assert key.stored.principal().projects == ("/srv/mill",)
    assert "forget" not in key.stored.principal().tools


def test_the_file_is_private_and_holds_no_secret(tmp_path: Path) -> None:
    secret = made(tmp_path).text.rpartition("_")[2]
    path = tmp_path / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text()
    assert len(secret) == 64


def test_scopes_narrow_a_role_and_never_widen_it(tmp_path: Path) -> None:
    key = made(tmp_path, READER._replace(scopes=("search", "metrics")))
    assert key.stored.principal().tools == {"search", "metrics"}
    with pytest.raises(InputError, match="narrow a role"):
        made(tmp_path, READER._replace(scopes=("forget",)))
    smuggled = StoredKey("0" * 12, "eve", Role.READER, "0" * 64, NOW, scopes=("forget", "search"))
    assert smuggled.principal().tools == {"search"}


@pytest.mark.parametrize("change", ["secret", "id", "prefix", "shorter", "longer", "upper"])
def test_a_key_that_is_nearly_right_opens_nothing(tmp_path: Path, change: str) -> None:
    text = made(tmp_path).text
    prefix, key_id, secret = text.split("_")
    other = "0" if secret[-1] != "0" else "1"
    wrong = {
        "secret": f"{prefix}_{key_id}_{secret[:-1]}{other}",
        "id": f"{prefix}_{'0' * 12}_{secret}",
        "prefix": f"smx_{key_id}_{secret}",
        "shorter": text[:-1],
        "longer": text + "0",
        "upper": text.upper(),
    }[change]
    assert Door(tmp_path).refuses(wrong) == (401, "unknown_key")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "smk_x", "Bearer " + "x" * 9000]
)
def test_a_request_without_a_key_is_told_how_to_send_one(tmp_path: Path, header: str | None) -> None:
    made(tmp_path)
    with pytest.raises(AccessError, match="Authorization: Bearer") as refused:
        KeyAuthenticator(tmp_path).authenticate(header, "")
    assert (refused.value.status, refused.value.reason) == (401, "no_key")


def test_nobody_comes_in_where_there_are_no_keys(tmp_path: Path) -> None:
    assert Door(tmp_path).refuses(f"smk_{'0' * 12}_{'0' * 64}") == (401, "unknown_key")
    with pytest.raises(SettingsError, match="keys create"):
        Door(tmp_path).keys.check()


def test_a_key_expires_at_its_time_and_not_before(tmp_path: Path) -> None:
    key, door = made(tmp_path, READER._replace(expires_at=NOW + HOUR)), Door(tmp_path)
    door.now = NOW + HOUR - 1
    assert door.opens(key.text).name == "mira"
    door.now = NOW + HOUR
    assert door.refuses(key.text) == (401, "expired")


def test_a_revoked_key_is_refused_by_a_service_that_runs(tmp_path: Path) -> None:
    key, door = made(tmp_path), Door(tmp_path)
    assert door.opens(key.text)
    access_keys.revoke(tmp_path, key.stored.id[:6])
    assert door.refuses(key.text) == (401, "revoked")
    assert access_keys.revoke(tmp_path, key.stored.id)[1] is False


def test_a_rotated_key_stops_and_the_new_one_has_its_rights(tmp_path: Path) -> None:
    key, door = made(tmp_path, READER._replace(scopes=("search",), expires_at=NOW + HOUR)), Door(tmp_path)
    _, new = access_keys.rotate(tmp_path, key.stored.id, quiet, NOW + 10)
    assert door.refuses(key.text) == (401, "revoked")
    assert door.opens(new.text)._replace(key_id="") == key.stored.principal()._replace(key_id="")
    assert new.stored.expires_at == NOW + 10 + HOUR


def test_a_rotated_key_may_work_on_for_a_while(tmp_path: Path) -> None:
    key, door = made(tmp_path), Door(tmp_path)
    access_keys.rotate(tmp_path, key.stored.id, quiet, NOW, overlap_us=HOUR)
    assert door.opens(key.text)
    door.now = NOW + HOUR
    assert door.refuses(key.text) == (401, "expired")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 9, "keys": []}', b"\xff\xfe", b"null"]
)
def test_a_malformed_file_lets_nobody_in_and_is_named(tmp_path: Path, damage: bytes) -> None:
    key, door = made(tmp_path), Door(tmp_path)
    assert door.opens(key.text)
    (tmp_path / FILE).write_bytes(damage)
    assert door.refuses(key.text) == (503, "settings")
    with pytest.raises(SettingsError, match=FILE):
        door.keys.check()
    with pytest.raises(SettingsError, match=FILE):
        made(tmp_path)
    assert (tmp_path / FILE).read_bytes() == damage


def test_why_no_key_is_accepted_is_in_the_log_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, door = made(tmp_path), Door(tmp_path)
    (tmp_path / FILE).write_bytes(b"{")
    for _ in range(3):
        assert door.refuses(key.text) == (503, "settings")
    assert [FILE in record.getMessage() for record in caplog.records] == [True]


def test_what_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "secret"
    given.write_text("a" * 32)
    key, door = made(tmp_path), Door(tmp_path, given)
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", _no_descriptor_left)
        assert door.refuses(key.text) == (503, "settings")
        assert door.refuses("a" * 32) == (503, "settings")
    assert door.opens(key.text) == key.stored.principal()
    assert door.opens("a" * 32).role is Role.ADMIN


def _no_descriptor_left(*_: object) -> None:
    raise OSError(24, "Too many open files")


def test_an_unknown_field_or_role_in_the_file_lets_nobody_in(tmp_path: Path) -> None:
    key, door = made(tmp_path), Door(tmp_path)
    good = (tmp_path / FILE).read_text()
    for old, new in (('"reader"', '"root"'), ('"created_at"', '"created_on"')):
        (tmp_path / FILE).write_text(good.replace(old, new))
        assert door.refuses(key.text) == (503, "settings")
    (tmp_path / FILE).write_text(good)
    assert door.opens(key.text)


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(made(tmp_path).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    door = Door(tmp_path)
    assert len({door.opens(text).key_id for text in texts}) == 8
    assert sorted(os.listdir(tmp_path)) == ["access.json", "access.lock"]


def test_a_key_that_could_not_be_told_of_is_not_made(tmp_path: Path) -> None:
    def full(_: StoredKey) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        access_keys.create(tmp_path, READER, full, NOW)
    assert read_keys(tmp_path) == ()


@pytest.mark.parametrize(
    "name", ["", "user", "Assistant", "system", "a/b", "a b", "-x", "x" * 65, "mira\n", "é"]
)
def test_names_that_could_be_taken_for_others_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        made(tmp_path, READER._replace(name=name))


@pytest.mark.parametrize(
    "folder", ["", "/", "srv", "~/x", "/srv/../etc", "/srv/.", "C:\\", "C:/", "/a\0b", "/a\nb"]
)
def test_grants_that_would_open_everything_or_nothing_are_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError):
        made(tmp_path, READER._replace(projects=(folder,)))


def test_what_everybody_does_is_counted_for_admins_of_all_projects_and_whoever_was_told_to_scrape(
    tmp_path: Path,
) -> None:
    def scrapes(role: Role, *scopes: str, projects: tuple[str, ...] | None) -> bool:
        return "metrics" in made(tmp_path, Wanted("mira", role, scopes, projects)).stored.principal().tools

    assert scrapes(Role.ADMIN, projects=None)
    assert not scrapes(Role.ADMIN, projects=("/srv/mill",))
    assert not scrapes(Role.WRITER, projects=None)
    assert scrapes(Role.READER, "metrics", projects=("/srv/mill",))


def test_the_file_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_keys, "KEYS_MAX", 3)
    first = made(tmp_path)
    for _ in range(2):
        made(tmp_path)
    with pytest.raises(InputError, match="revoke one"):
        made(tmp_path)
    access_keys.revoke(tmp_path, first.stored.id)
    made(tmp_path)
    assert first.stored.id not in {key.id for key in read_keys(tmp_path)}


# -- the key of a file -----------------------------------------------------------------------------------------------


def test_the_admin_key_of_a_file_opens_everything_and_is_stored_nowhere(tmp_path: Path) -> None:
    given = tmp_path / "secret"
    given.write_text("0123456789abcdef0123456789abcdef\n")
    data = tmp_path / "data"
    data.mkdir()
    door = Door(data, given)
    found = door.opens("0123456789abcdef0123456789abcdef")
    assert (found.role, found.projects) == (Role.ADMIN, None)
    assert "forget" in found.tools and "metrics" in found.tools
    assert door.refuses("0123456789abcdef0123456789abcdeX") == (401, "unknown_key")
    assert os.listdir(data) == []
    door.keys.check()


def test_a_replaced_admin_key_counts_at_once(tmp_path: Path) -> None:
    given = tmp_path / "secret"
    given.write_text("a" * 32)
    door = Door(tmp_path, given)
    assert door.opens("a" * 32)
    given.write_text("b" * 40)
    assert door.refuses("a" * 32) == (401, "unknown_key")
    assert door.opens("b" * 40)
    given.unlink()
    assert door.refuses("b" * 40) == (401, "unknown_key")


@pytest.mark.parametrize(
    "text", ["", "short", "two words of more than thirty two characters", "é" * 40, "x" * 600]
)
def test_a_file_without_a_proper_key_keeps_the_service_from_starting(tmp_path: Path, text: str) -> None:
    given = tmp_path / "secret"
    given.write_text(text)
    door = Door(tmp_path, given)
    with pytest.raises(SettingsError, match="admin key file"):
        door.keys.check()
    if text:
        assert door.refuses(text)[0] == 401


def test_the_empty_key_never_opens(tmp_path: Path) -> None:
    door = Door(tmp_path, tmp_path / "missing")
    with pytest.raises(AccessError):
        door.keys.authenticate("Bearer  ", "")
    assert door.refuses("0" * 64) == (401, "unknown_key")
