"""Folders that cannot be used: the right error, naming the path and the mend, and nothing changed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_kit import events, snapshot

from session_mgmt_mcp.core.errors import AppendError, DataFolderError, FormatTooNewError
from session_mgmt_mcp.core.log import folder as folders
from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.folder import (
    create_or_refuse,
    file_system_of,
    parse_mac_mounts,
    parse_mountinfo,
    refuse_network,
)
from session_mgmt_mcp.core.log.log import FileLog

MOUNTINFO = r"""22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
35 22 0:31 / /home/ada/team\040share rw,relatime shared:17 - nfs4 files:/export rw,vers=4.2
36 22 0:32 / /mnt/odd\134name rw - fuse.sshfs ada@host:/ rw
37 22 0:33 / /home/ada/team\040share/local rw shared:18 master:3 - xfs /dev/sdb1 rw
"""
MAC_MOUNTS = """/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//ada@files/team on /Volumes/team share (smbfs, nodev, nosuid, mounted by ada)
files:/export on /Volumes/export (nfs)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        log.append(events(b"one"))
    return folder


def format_line(version: int) -> bytes:
    body = b'{"format": "session-mgmt-mcp log", "version": %d, "log_id": "%s"' % (version, b"0" * 32)
    return body + b', "sha256": "' + sha256(body).digest().hex().encode() + b'"}\n'


@pytest.mark.parametrize("name", ["thesis.tex", "draft.tmp", "views/index.html", "journal/x", "spool/job"])
def test_a_folder_that_holds_other_things_is_refused_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for ask in (lambda: FileLog(tmp_path, create=True), lambda: Appender(str(tmp_path)).append([])):
        with pytest.raises(DataFolderError, match="left as it is; set SESSION_MGMT_DATA_DIR") as error:
            ask()
        assert str(tmp_path) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_or_half_made_folder_becomes_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "FORMAT.0a0b0c0d.tmp").write_bytes(b"{")
    with FileLog(tmp_path, create=True) as log:
        assert log.append(events(b"one"))[0].position == 1


def test_a_folder_somebody_is_just_creating_is_not_called_foreign(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.listdir
    monkeypatch.setattr(
        folders.os, "listdir", lambda p: [n for n in real(p) if p != str(folder) or n != "FORMAT.json"]
    )
    create_or_refuse(str(folder))


def test_a_folder_without_a_log_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataFolderError, match="holds no log; `session-mgmt-mcp setup` makes one, or `import`"
    ):
        FileLog(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused_with_both_versions_named(folder: Path) -> None:
    (folder / "FORMAT.json").write_bytes(format_line(2))
    before = snapshot(folder)
    for ask in (lambda: FileLog(folder, create=True), lambda: Appender(str(folder)).append([])):
        with pytest.raises(
            FormatTooNewError, match="is in format 2; this program reads up to 1: upgrade"
        ) as error:
            ask()
        assert str(folder) in str(error.value)
        assert error.value.exit_code == 3
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "damaged or foreign"),
        (b"[]", "damaged or foreign"),
        (b'{"version": 1e999, "log_id": "x", "format": ""}', "damaged or foreign"),
        (b"\xff\xfe", "damaged or foreign"),
        (b'{"format": "other", "version": 1, "log_id": "x"}', "of another program"),
        (format_line(1).replace(b"000", b"111", 1), "its own checksum"),
    ],
)
def test_a_damaged_format_json_is_refused_by_name(folder: Path, line: bytes, said: str) -> None:
    (folder / "FORMAT.json").write_bytes(line)
    before = snapshot(folder)
    with pytest.raises(DataFolderError, match=said) as error:
        FileLog(folder)
    assert str(folder / "FORMAT.json") in str(error.value)
    assert snapshot(folder) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DataFolderError, match="set SESSION_MGMT_DATA_DIR"):
        FileLog(tmp_path / "data", create=True)
    assert (tmp_path / "data").read_text() == "mine"


def run_without_rights(folder: Path, action: str) -> str:
    """What a process prints that does this; root gives its rights up first, after the imports."""
    code = (
        "import os, session_mgmt_mcp.core.log.log as m, session_mgmt_mcp.core.log.journals\n"
        "import session_mgmt_mcp.core.log.folder, json\n"
        "if os.getuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"folder = {str(folder)!r}\n"
        f"try:\n    {action}\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def reachable(folder: Path) -> Iterator[Path]:
    """A copy that others get at: pytest's folders are private, and made private again by whatever pytest starts next."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o711)
        yield Path(shutil.copytree(folder, f"{above}/data"))


def test_an_unreadable_folder_is_named_with_its_mend(reachable: Path) -> None:
    reachable.chmod(0)
    said = run_without_rights(reachable, "m.FileLog(folder)")
    reachable.chmod(0o700)
    assert said.startswith(f"DataFolderError cannot read {reachable}/FORMAT.json: Permission denied")
    assert "mend its permissions" in said


def test_a_read_only_folder_can_be_read_and_refuses_to_append(reachable: Path) -> None:
    for path in (reachable, *reachable.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(reachable)
    said = run_without_rights(
        reachable, "log = m.FileLog(folder); print(len(next(log.read())), 'read'); log.append([])"
    )
    assert said.splitlines()[0] == "1 read"
    refusal = said.splitlines()[1]
    assert refusal.startswith(f"{AppendError.__name__} cannot open the log in {reachable}: Permission denied")
    assert "make the folder writable" in refusal
    assert snapshot(reachable) == before
    for path in (reachable, *reachable.rglob("*")):
        path.chmod(0o700)


# -- network file systems ----------------------------------------------------------------------------------------


def test_mounts_of_linux_are_read_with_their_escapes() -> None:
    assert parse_mountinfo(MOUNTINFO) == [
        ("/", "ext4"),
        ("/home/ada/team share", "nfs4"),
        ("/mnt/odd\\name", "fuse.sshfs"),
        ("/home/ada/team share/local", "xfs"),
    ]


def test_mounts_of_macos_are_read() -> None:
    assert parse_mac_mounts(MAC_MOUNTS) == [
        ("/", "apfs"),
        ("/Volumes/team share", "smbfs"),
        ("/Volumes/export", "nfs"),
        ("/System/Volumes/Data", "apfs"),
    ]


def test_the_innermost_mount_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_mounts", lambda: parse_mountinfo(MOUNTINFO))
    monkeypatch.setattr(folders.os.path, "exists", lambda _: True)
    assert file_system_of("/home/ada/team share/x") == "nfs4"
    assert file_system_of("/home/ada/team share/local/x") == "xfs"
    assert file_system_of("/home/ada/team shared") == "ext4"
    refuse_network("/home/ada/team share/local/x")
    with pytest.raises(DataFolderError, match=r"\(nfs4\).*set SESSION_MGMT_DATA_DIR to a local folder"):
        refuse_network("/home/ada/team share/x")


def test_a_network_file_system_is_refused_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_mounts", lambda: [("/", "smbfs")])
    with pytest.raises(DataFolderError, match="smbfs"):
        FileLog(tmp_path / "data", create=True)
    assert list(tmp_path.iterdir()) == []
