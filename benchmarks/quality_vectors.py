"""Vectors for the quality benchmarks: every passage embedded once, kept in a folder from run to run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.embedding import Embedder
from session_mgmt_mcp.projections.passages import number_of_passage, passages_of
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.query_files import QueryFiles, load_state
from session_mgmt_mcp.projections.vector_blocks import Pairs
from session_mgmt_mcp.projections.vector_state import empty_state
from session_mgmt_mcp.projections.vector_store import fill

AT_ONCE = 1024


class KeptVectors:
    """Vectors by passage number, in files of float16 rows beside their numbers."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._folder = folder
        self._embedder = embedder
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[int, npt.NDArray[np.float16]] = {}
        for path in sorted(folder.glob("*.npz")):
            found = np.load(path)
            self._known.update(zip(found["n"].tolist(), found["v"], strict=True))

    @property
    def model(self) -> tuple[str, int]:
        return self._embedder.model_id, self._embedder.dimension

    def known(self, number: int) -> bool:
        return number in self._known

    def add(self, passages: Sequence[tuple[int, str]]) -> None:
        for first in range(0, len(passages), AT_ONCE):
            part = passages[first : first + AT_ONCE]
            numbers = np.array([number for number, _ in part], np.int64)
            rows = self._embedder.embed_passages([text for _, text in part]).astype(np.float16)
            np.savez(self._folder / f"{time.time_ns()}.npz", n=numbers, v=rows)
            self._known.update(zip(numbers.tolist(), rows, strict=True))

    def rows(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        out = np.empty((len(numbers), self._embedder.dimension), np.float32)
        for i, number in enumerate(numbers.tolist()):
            out[i] = self._known[number]
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def add_vectors(log: EventLog, folder: Path, kept: KeptVectors, *, cached_only: bool) -> dict[str, Any]:
    """Publish the vectors of a published history's passages; how many there are, and how many have one."""
    views = views_folder(folder)
    state = load_state(views, log)
    assert state is not None
    files = QueryFiles(views, state)
    pairs: list[tuple[int, int]] = []
    texts: dict[int, str] = {}
    for row in files.shown_rows("true"):
        for text in passages_of(row):
            number = number_of_passage(text)
            pairs.append((row.id, number))
            texts[number] = text
    files.close()
    if not cached_only:
        kept.add([(number, text) for number, text in texts.items() if not kept.known(number)])
    found = [(i, n) for i, n in pairs if kept.known(n)]
    ids, numbers = np.array(found, np.int64).reshape(-1, 2).T
    distinct = np.unique(numbers)
    model_id, _ = kept.model
    empty = msgspec.structs.replace(empty_state(log.log_id, state.watermark), model_id=model_id)
    if len(distinct):
        fill(views, empty, Pairs(ids, numbers), distinct, kept.rows(distinct), ((0, empty.end),))
    return {"passages": len(texts), "vectors": len(distinct)}
