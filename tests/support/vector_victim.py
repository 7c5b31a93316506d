"""Processes that append, publish and embed, to be killed: each line on stdin, FOLDER and ROUND, forks one.

On stdout: its process id and a line end, a dot at each step (a call that changes the disk, a few passages embedded), and
an exclamation mark when it has ended. What was embedded stands in FOLDER.embedded, 8 bytes a passage.
"""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from action_log import call, prompt, reply
from vector_kit import HashEmbedder

from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.projections import publish, vector_rebuild, vector_store, vector_writer
from session_mgmt_mcp.projections.passages import number_of_passage
from session_mgmt_mcp.projections.protocol import views_folder

CHUNK_PASSAGES = 16
CALLS = ("link", "rename", "replace", "unlink", "fsync", "pwrite", "mkdir")


class Counting(HashEmbedder):
    """Notes what it embeds before anybody has it."""

    def __init__(self, notes: Path) -> None:
        super().__init__()
        self._notes = notes

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        found = super().embed_passages(texts)
        with self._notes.open("ab") as file:
            file.write(b"".join(number_of_passage(text).to_bytes(8, "little") for text in texts))
        os.write(1, b".")
        return found


def word(round_: int) -> str:
    """One that no other round has."""
    return f"qx{''.join('abcdefghij'[int(digit)] for digit in str(round_))}qx"


def events(round_: int) -> list[Any]:
    """The first round's are many, later ones' few; one of each says `word`."""
    out: list[Any] = [prompt("s-1", f"w-{round_}", word(round_), round_)]
    for n in range(60 if round_ == 0 else 2):
        name = f"{round_}-{n}"
        out += [
            prompt(f"s-{n % 3}", f"p-{name}", f"question {name}", round_),
            call(f"s-{n % 3}", f"c-{name}", f"t-{name}", "Bash", {"command": f"make {name}"}, round_),
            reply(f"s-{n % 3}", f"r-{name}", f"answer {name}", round_),
        ]
    return out


def work(folder: Path, round_: int) -> None:
    """One life: append, seal, publish, embed all there is; now and then a replay before."""
    with FileLog(folder, create=True) as log:
        log.append(events(round_))
        log.roll()
        seal(log.folder, log.log_id)
        publish.update(log, folder)
        if random.Random(round_).random() < 0.2:
            publish.replay(log, folder, ["vector"])
        writer = vector_writer.VectorWriter(log, views_folder(folder), Counting(Path(f"{folder}.embedded")))
        while not writer.chunk(CHUNK_PASSAGES).done:
            pass
        writer.close()


def tell_steps() -> None:
    """Have each of CALLS write a dot before it does what it does."""

    def wrap(original: Any) -> Any:
        def told(*args: Any, **kwargs: Any) -> Any:
            os.write(1, b".")
            return original(*args, **kwargs)

        return told

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def small_files() -> None:
    """A few passages fill a file, a few rows a window."""
    vector_writer.WINDOW_POSITIONS = 32
    vector_writer.SLICE_PASSAGES = 4
    vector_rebuild.RUN_ROWS_MIN = 8
    vector_store.FULL_PASSAGES = 64
    vector_store.FULL_PAIRS = 96


def main() -> None:
    small_files()
    for line in sys.stdin:
        folder, round_ = line.split()
        child = os.fork()
        if child == 0:
            os.write(1, f"{os.getpid()}\n".encode())
            tell_steps()
            work(Path(folder), int(round_))
            os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"!")


if __name__ == "__main__":
    main()
