"""Which projections an interrupted replay had already rebuilt, so that the next one goes on with the others."""

import time
from collections.abc import Collection
from pathlib import Path

from session_mgmt_mcp.projections.files import make_folder, read_json, write_json

FILE = "replaying.json"
AGE_S_MAX = 86_400  # afterwards a replay starts over


def left_of(views: Path, wanted: Collection[str]) -> list[str]:
    """Those of `wanted` that are to be rebuilt: all, but for what an interrupted replay of the same ones finished."""
    found = read_json(views / FILE) or {}
    age = time.time() - float(found.get("at", 0))
    if found.get("wanted") == list(wanted) and 0 <= age < AGE_S_MAX:
        return [name for name in wanted if name not in found.get("done", ())]
    _write(make_folder(views), wanted, ())
    return list(wanted)


def note_done(views: Path, wanted: Collection[str], name: str) -> None:
    """`name` was rebuilt and is published."""
    done = (read_json(views / FILE) or {}).get("done", ())
    _write(views, wanted, {*done, name})


def finished(views: Path) -> None:
    """The replay is done, or what it did is not to be built upon."""
    (views / FILE).unlink(missing_ok=True)


def _write(views: Path, wanted: Collection[str], done: Collection[str]) -> None:
    write_json(views / FILE, {"wanted": list(wanted), "done": sorted(done), "at": time.time()})
