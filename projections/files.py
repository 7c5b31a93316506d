"""Small files on disk: written whole or not at all, and durable once they have their name."""

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def fsync_path(path: Path) -> None:
    """Bring a file or a folder's entries to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` atomically."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_path(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """None where the file is missing or no JSON object: a projection is then as good as unpublished."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def remove_others(folder: Path, keep: set[str]) -> None:
    """Remove the files of `folder` not named in `keep`; readers that have them open keep them."""
    for entry in os.scandir(folder):
        if entry.name not in keep and not entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)


def stamp(path: Path | str) -> tuple[int, int, int]:
    """Changes whenever the file was replaced; zeros where it is missing."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def remove_leftovers(folder: Path) -> None:
    """Remove what interrupted writers left in a projection's folder; what is published stays."""
    for path in folder.rglob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
