"""How logs of released format versions are kept beside this file, and made data folders again.

What git would change or lose is left out and put back: journals lose their trailing zeros (the header says how large the
file is), empty folders and file modes are not stored, hints and locks neither.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from session_mgmt_mcp.core.log.folder import FOLDERS
from session_mgmt_mcp.core.log.forget import tombstones
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.spool import spooled

HERE = Path(__file__).parent
_CAPACITY_AT, _MIB = 12, 1 << 20  # in a journal's header, since version 1
_LEFT_OUT = ("tail.shm", "append.lock", "maintenance.lock")


def cases() -> list[str]:
    """`v<version>/<case>` of every log that is kept."""
    return sorted(str(path.with_suffix("").relative_to(HERE)) for path in HERE.glob("v*/*.json"))


def listing(name: str) -> dict[str, Any]:
    """What a reader must see in this case."""
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    return found


def materialise(name: str, folder: Path) -> Path:
    """The case as a data folder."""
    for part in ("", *FOLDERS):
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    for source in sorted((HERE / name).rglob("*")):
        if source.is_dir():
            continue
        target = folder / source.relative_to(HERE / name)
        raw = source.read_bytes()
        target.write_bytes(raw)
        if target.suffix == ".journal":
            capacity = int.from_bytes(raw[_CAPACITY_AT : _CAPACITY_AT + 4], "little") * _MIB
            os.truncate(target, capacity)
        target.chmod(0o400 if target.parent.name == "segments" else 0o600)
    return folder


def store(folder: Path, target: Path) -> None:
    """Keep this data folder, and beside it what a reader sees in it today."""
    said = describe(folder)
    for source in sorted(folder.rglob("*")):
        if source.is_dir() or source.name in _LEFT_OUT:
            continue
        raw = source.read_bytes()
        kept = target / source.relative_to(folder)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(raw.rstrip(b"\0") if source.suffix == ".journal" else raw)
    text = json.dumps(said, indent=1, ensure_ascii=True)
    target.with_suffix(".json").write_text(text + "\n", "utf-8")


def describe(folder: Path) -> dict[str, Any]:
    """Everything a reader sees of a log, as plain data; payloads in base64, forgotten ones null."""
    with FileLog(folder) as log:
        head, sealed = log.head(), log.sealed()
        return {
            "log_id": log.log_id,
            "origin": log.origin,
            "head": [head.position, head.chain.hex()],
            "sealed": [sealed.position, sealed.chain.hex()],
            "forgotten": sorted(p for t in tombstones(log) for p in t.positions),
            "spooled": [os.path.basename(path) for path in spooled(str(folder))],
            "events": [
                [
                    event.position,
                    event.event_id.hex(),
                    [_plain(value) for value in msgspec.structs.astuple(event.envelope)],
                    None if event.payload is None else base64.b64encode(event.payload).decode(),
                ]
                for batch in log.read()
                for event in batch
            ],
        }


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
