"""What a power cut may leave of the views: real files, recorded at each call that publishes them.

DuckDB and tantivy write by themselves, so no simulated disk can carry them. Instead every rename, unlink, mkdir and fsync
that Python makes is noted, and with it what was durable there and then: contents by the file's fsync, names by the
folder's. A state left by a cut keeps the durable and any part of the rest. What tantivy holds counts as durable: it syncs
its own files and folders.
"""

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

Tree = dict[str, bytes | None]  # path below the views: content, None for a folder
_CALLS = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync")
MODES = ("least", "all", "any", "any")


class Recorder:
    """Notes what happens below one folder. What it holds when the recording begins is durable."""

    def __init__(self, root: Path, rnd: random.Random) -> None:
        self.root, self.rnd = root, rnd
        self.states: dict[bytes, Tree] = {}  # by digest, in the order they were met
        self.last: list[Tree] = []  # those of the end
        self._fds: dict[int, int] = {}  # inode: kept open, so that no other file gets its number
        self._names: dict[int, dict[str, int]] = {}  # folder: its names and their inodes, as they are
        self._durable: dict[int, dict[str, int]] = {}
        self._content: dict[int, bytes] = {}
        self._synced: dict[int, bytes] = {}
        self._observe()
        self._durable = {folder: dict(names) for folder, names in self._names.items()}
        self._synced = dict(self._content)

    @contextmanager
    def recording(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in _CALLS:
                stack.enter_context(mock.patch.object(os, name, self._noting(getattr(os, name), name)))
            yield
        self._take()
        self.last = [self._left_by_cut(mode) for mode in MODES]
        for fd in self._fds.values():
            os.close(fd)

    def _noting(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self._take()
            out = real(*given, **named)
            if name == "fsync":
                self._note_sync(os.fstat(given[0]))
            return out

        return call

    def _note_sync(self, found: os.stat_result) -> None:
        self._observe()
        if found.st_ino in self._names:
            self._durable[found.st_ino] = dict(self._names[found.st_ino])
        elif found.st_ino in self._content:
            self._synced[found.st_ino] = self._content[found.st_ino]

    def _observe(self) -> None:
        """Look at every file and folder there is."""
        folders = [str(self.root)]
        for names in self._names.values():
            names.clear()  # those that are gone have no names
        while folders:
            path = folders.pop()
            names = self._names[self._keep(path)] = {}
            for entry in sorted(os.listdir(path)):
                names[entry] = inode = self._keep(f"{path}/{entry}")
                if os.path.isdir(f"{path}/{entry}"):
                    folders.append(f"{path}/{entry}")
                else:
                    size = os.fstat(self._fds[inode]).st_size
                    self._content[inode] = os.pread(self._fds[inode], size, 0)

    def _keep(self, path: str) -> int:
        inode = os.stat(path).st_ino
        if inode not in self._fds:
            self._fds[inode] = os.open(path, os.O_RDONLY)
        return inode

    # -- states --------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._observe()
        for mode in MODES:
            tree = self._left_by_cut(mode)
            self.states.setdefault(digest_of(tree), tree)

    def _left_by_cut(self, mode: str) -> Tree:
        tree: Tree = {}
        self._walk(os.stat(self.root).st_ino, "", mode, tree)
        return tree

    def _walk(self, folder: int, at: str, mode: str, tree: Tree) -> None:
        now = self._names[folder]
        then = now if "meta.json" in now else self._durable.get(folder, {})
        kept = {"least": 0.0, "all": 1.0}.get(mode, self.rnd.choice((0.0, 0.5, 1.0)))
        for name in sorted({*now, *then}):
            inode = (now if self.rnd.random() < kept else then).get(name)
            if inode is None:
                continue
            path = f"{at}{name}"
            if stat.S_ISDIR(os.fstat(self._fds[inode]).st_mode):
                tree[path] = None
                self._walk(inode, f"{path}/", mode, tree)
            else:
                is_durable = "meta.json" in now
                tree[path] = self._content[inode] if is_durable else self._content_left(inode, mode)

    def _content_left(self, inode: int, mode: str) -> bytes:
        written, synced = self._content[inode], self._synced.get(inode, b"")
        if mode in ("least", "all") or written == synced:
            return synced if mode == "least" else written
        return self.rnd.choice((written, synced, written[: len(written) // 2], bytes(len(written))))


def digest_of(tree: Tree) -> bytes:
    """Equal for equal trees."""
    total = sha256()
    for path in sorted(tree):
        content = tree[path]
        total.update(repr((path, None if content is None else sha256(content).digest())).encode())
    return total.digest()


def lay_out(tree: Tree, root: Path) -> None:
    """Write a tree to an absent folder."""
    root.mkdir(parents=True)
    for path in sorted(tree):
        content = tree[path]
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)
