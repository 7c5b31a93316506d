"""Generated data folders the benchmarks share, made where they are not there yet; and vectors for them.

    python benchmarks/prepared.py [1k 10k 100k 1M] [--vectors]

They lie in the folder `SESSION_MGMT_BENCH_DATA` names (default: session-mgmt-bench in the temporary folder) and are not
written to: what writes takes a `working_copy`. Vectors are of every passage: mixtures of two of some thousand passages
that were embedded, with noise, so that they lie as real ones do and a million takes a minute instead of hours.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import corpus
import msgspec
import numpy as np
from report import show

from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.projections.embedding import Embedder
from session_mgmt_mcp.projections.passages import passages_of
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.vector_rebuild import pairs_of
from session_mgmt_mcp.projections.vector_state import empty_state, read_state
from session_mgmt_mcp.projections.vector_store import fill
from session_mgmt_mcp.tools import bench
from session_mgmt_mcp.tools.app import App

VARIABLE = "SESSION_MGMT_BENCH_DATA"
EMBEDDED = 2000  # passages embedded, of which the vectors are mixed
EMBEDDED_CHARS = 400
NOISE = 0.35  # length of the noise beside a vector of length 1
PART = 50_000


def folder_of(size: str) -> Path:
    """The data folder of `corpus.SIZES[size]` events, with views of this version and vectors."""
    root = Path(os.environ.get(VARIABLE) or Path(tempfile.gettempdir()) / "session-mgmt-bench")
    folder = root / size
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        making = root / f".{size}.making"
        shutil.rmtree(making, ignore_errors=True)
        corpus.fill(making, corpus.SIZES[size])
        making.rename(folder)
    with App.open(folder) as app:
        publish.update(app.log, app.folder)  # nothing, where they are there
    if not _has_vectors(folder):
        add_vectors(folder)
    return folder


def _has_vectors(folder: Path) -> bool:
    state = read_state(views_folder(folder))
    return state is not None and bool(state.vectors) and state.model_id == Embedder.open(None).model_id


def add_vectors(folder: Path, seed: int = corpus.SEED) -> int:
    """Publish a vector for every passage; how many."""
    embedder = Embedder.open(None)
    with App.open(folder) as app, app.views.reading() as files:
        pairs = pairs_of(files, "true", _say)
        some = files.fetch(
            "SELECT id FROM shown WHERE kind IN ('PromptSubmitted', 'AssistantReplied') LIMIT 4000"
        )
        rows = files.shown_rows(f"id IN ({','.join(str(row_id) for (row_id,) in some)})")
        texts = list(dict.fromkeys(text[:EMBEDDED_CHARS] for row in rows for text in passages_of(row)))[
            :EMBEDDED
        ]
        print(f"embedding {len(texts)} passages", file=sys.stderr)
        base = embedder.embed_passages(texts)
        numbers = np.unique(pairs.numbers)
        state = empty_state(app.log.log_id, files.state.watermark)
        end = (files.state.position + 1) << 10
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            vectors = _mixed(base, len(numbers), seed, Path(scratch) / "rows")
            named = msgspec.structs.replace(state, model_id=embedder.model_id)
            fill(views_folder(folder), named, pairs, numbers, vectors, ((0, end),))
    return len(numbers)


def _mixed(base: Any, count: int, seed: int, path: Path) -> Any:
    """So many mixtures of two of the vectors and noise, of length 1; on disk."""
    rng = np.random.default_rng(seed)
    out = np.memmap(path, np.float16, "w+", shape=(max(1, count), base.shape[1]))
    for begin in range(0, count, PART):
        n = min(PART, count - begin)
        first, second = base[rng.integers(0, len(base), n)], base[rng.integers(0, len(base), n)]
        share = rng.uniform(0.5, 1, (n, 1)).astype(np.float32)
        noise = rng.standard_normal((n, base.shape[1]), np.float32) * np.float32(NOISE / base.shape[1] ** 0.5)
        rows = share * first + (1 - share) * second + noise
        out[begin : begin + n] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return out[:count]


def _say(done: int, total: int) -> None:
    print(f"passages of {done:,} of {total:,} rows", file=sys.stderr, flush=True)


def described(folder: Path) -> dict[str, Any]:
    """What a data folder holds, and a hash over its records."""
    digest = hashlib.sha256()
    with App.open(folder) as app:
        for batch in app.log.read(0, app.log.sealed().position):
            for event in batch:
                digest.update(event.payload or b"")
        status = app.views.status()
    state = read_state(views_folder(folder))
    return {
        "events": status.log_position,
        "rows": status.actions,
        "vectors": state.count if state else 0,
        "log_mb": bench.size(folder / "segments") / 1e6,
        "views_mb": bench.size(folder / "views") / 1e6,
        "sha256": digest.hexdigest()[:16],
    }


def queries(folder: Path, count: int = bench.QUERIES_MAX) -> list[str]:
    """Stretches of the data's own words."""
    with App.open(folder) as app:
        return bench.own_queries(app, count)


@contextmanager
def working_copy(folder: Path) -> Iterator[Path]:
    """A copy one may write to: what is never changed in place is linked, the rest copied."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        copy = Path(scratch) / "data"
        for parent, _, names in os.walk(folder):
            target = copy / Path(parent).relative_to(folder)
            target.mkdir(parents=True)
            immutable = target.relative_to(copy).parts[:1] in (("segments",), ("views",))
            for name in names:
                source = Path(parent, name)
                if immutable and source.stat().st_size > 1 << 16:
                    os.link(source, target / name)
                else:
                    shutil.copy2(source, target / name)
        yield copy


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", default=list(corpus.SIZES), choices=list(corpus.SIZES))
    parser.add_argument("--vectors", action="store_true", help="make the vectors anew")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for size in args.sizes:
        folder = folder_of(size)
        if args.vectors:
            add_vectors(folder)
        show("prepared", {"size": size, **described(folder)}, as_json=args.json)


if __name__ == "__main__":
    main()
