"""The embedding model: a query's latency, passages a second by length, load and memory; beside the official weights.

    python benchmarks/embedding.py [--source FOLDER] [--workers N] [--json]

`--source` (or SESSION_MGMT_MODEL_SOURCE) names a folder with the official model.safetensors and tokenizer.json: with it, and
the extra `model`, the same figures for the 32-bit model, and how far the shipped one's vectors are from it: on texts of
SESSION_MGMT_REAL_DATA, where that is set. Each model has a process of its own. Times are CPU times (user + system), which a
busy machine disturbs least; passages a second are of one thread, and by the clock for `--workers` threads.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report

SEED = 4
QUERIES = 300
LENGTHS = (16, 64, 128, 250)  # tokens
TOKENS_A_LENGTH = 6000
TEXTS = 500  # compared with the 32-bit model's
TEXT_LETTERS = (40, 1000)
NEIGHBOURS = 10
SOURCE_VARIABLE = "SESSION_MGMT_MODEL_SOURCE"
# words of one token each
SENTENCE = (
    "the test failed because a file was not found in this folder when server read data from old table "
    "after we changed how time is kept and why did it stop again with no error on new machine"
)
WORDS = SENTENCE.split()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the embedding model.")
    parser.add_argument("--source", type=Path, default=os.environ.get(SOURCE_VARIABLE))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        print(json.dumps(measure(Path(chosen.child) if chosen.child else None, chosen.workers, chosen.texts)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "texts.json").write_text(json.dumps(real_texts()), "utf-8")
        shipped = in_a_process("", chosen.workers, folder)
        figures: dict[str, Any] = {"shipped": shipped}
        if chosen.source is not None:
            write_official(Path(chosen.source), folder / "official")
            official = in_a_process(str(folder / "official"), chosen.workers, folder)
            figures |= {"official": official, "agreement": agreement(shipped, official)}
        else:
            figures["official"] = f"not measured: --source or {SOURCE_VARIABLE} names no weights"
    for each in figures.values():
        if isinstance(each, dict):
            each.pop("vectors", None)
    report.show("embedding", figures, as_json=chosen.json)


def in_a_process(model: str, workers: int, folder: Path) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--child",
        model,
        "--workers",
        str(workers),
        "--texts",
        str(folder / "texts.json"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(model: Path | None, workers: int, texts: Path) -> dict[str, Any]:
    """Figures of one model (None: the shipped one); `vectors` of the texts are hex, float32."""
    import numpy as np

    resident, began = resident_mb(), time.process_time()
    from session_mgmt_mcp.projections.embedding import Embedder

    wall = time.perf_counter()
    embedder = Embedder.open(model, workers=1)
    opened_wall = time.perf_counter() - wall
    opened, loaded = time.process_time() - began, resident_mb() - resident
    first = cpu_ms(lambda: embedder.embed_query("the first one"))
    chance = random.Random(SEED)
    queries = [" ".join(chance.choices(WORDS, k=chance.randint(4, 16))) for _ in range(QUERIES)]
    latencies = [cpu_ms(lambda query=query: embedder.embed_query(query)) for query in queries]
    found: dict[str, Any] = {
        "import_and_load_cpu_ms": 1000 * opened,
        "load_wall_ms": 1000 * opened_wall,
        "first_query_ms": first,
        "query_ms": report.percentiles(latencies),
        "known_query_ms": cpu_ms(lambda: embedder.embed_query(queries[-1])),
        "passages_s": {},
        "passages_s_in_eights": {},
    }
    passages = {
        length: [words(chance, length) for _ in range(TOKENS_A_LENGTH // length)] for length in LENGTHS
    }
    for length, some in passages.items():
        spent = cpu_s(lambda some=some: embedder.embed_passages(some))
        found["passages_s"][str(length)] = len(some) / spent
    found["memory_mb"] = {"loaded": loaded, "after": resident_mb() - resident}
    for length, some in passages.items():
        found["passages_s_in_eights"][str(length)] = in_eights(embedder, some[: len(some) // 8 * 8])
    several, longest = Embedder.open(model, workers=workers), passages[LENGTHS[-1]]
    clock = time.perf_counter()
    several.embed_passages(longest)
    spent = time.perf_counter() - clock
    found["passages_s_by_the_clock"] = {
        "threads": workers,
        "tokens": LENGTHS[-1],
        "rate": len(longest) / spent,
    }
    vectors = embedder.embed_passages(json.loads(texts.read_text("utf-8")))
    return found | {"vectors": vectors.astype(np.float32).tobytes().hex()}


def in_eights(embedder: Any, passages: list[str]) -> float:
    """Passages a second if eight of one length were run at once: what the embedder does not do, and why."""
    import numpy as np

    session, tokenizer = embedder._session, embedder._tokenizer
    runs = []
    for at in range(0, len(passages), 8):
        ids = np.array([tokenizer.encode(text).ids for text in passages[at : at + 8]], np.int64)
        runs.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return len(passages) / cpu_s(lambda: [session.run(None, run) for run in runs])


def agreement(shipped: dict[str, Any], official: dict[str, Any]) -> dict[str, float] | str:
    """How near the vectors of the same texts are, and how many of the nearest neighbours are the same."""
    import numpy as np

    if not shipped["vectors"]:
        return f"not measured: {report.REAL_DATA_VARIABLE} names no texts"
    one, other = (
        np.frombuffer(bytes.fromhex(each["vectors"]), np.float32).reshape(-1, 384)
        for each in (shipped, official)
    )
    cosines = np.sort((one * other).sum(1))
    nearest = []
    for vectors in (one, other):
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -1)
        nearest.append(np.argsort(-likeness, axis=1)[:, :NEIGHBOURS])
    shared = [len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(*nearest, strict=True)]
    return {
        "texts": float(len(one)),
        "cosine": float(cosines.mean()),
        "cosine_p1": float(cosines[len(cosines) // 100]),
        "neighbours_shared": float(np.mean(shared)),
    }


def real_texts() -> list[str]:
    """Texts of the real sessions, spread over them; none where no real data is named."""
    if not os.environ.get(report.REAL_DATA_VARIABLE):
        return []
    found: set[str] = set()
    for path in sorted(report.real_transcripts().rglob("*.jsonl")):
        for line in path.read_text("utf-8", "replace").splitlines():
            found.update(text[: TEXT_LETTERS[1]] for text in texts_of(line) if len(text) >= TEXT_LETTERS[0])
    return random.Random(SEED).sample(sorted(found), min(TEXTS, len(found)))


def texts_of(line: str) -> list[str]:
    """What was said in a record of a transcript."""
    try:
        record = json.loads(line)
    except ValueError:
        return []
    message = record.get("message") if isinstance(record, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    blocks = content if isinstance(content, list) else [{"text": content}]
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return [text for text in texts if isinstance(text, str)]


def write_official(source: Path, folder: Path) -> None:
    """A model folder with the official weights as they are: the shipped one's graph before it is made 8-bit."""
    from safetensors.numpy import load_file

    from session_mgmt_mcp.projections.embedding_model import SHIPPED
    from session_mgmt_mcp.tools.model_build import serialised

    folder.mkdir()
    (folder / "model.onnx").write_bytes(serialised(load_file(source / "model.safetensors"), quantised=False))
    for name in ("tokenizer.json", "embed.json"):
        shutil.copyfile(SHIPPED / name, folder / name)


def words(chance: random.Random, tokens: int) -> str:
    """A text of that many tokens, the two that frame it included."""
    return " ".join(chance.choices(WORDS, k=tokens - 2))


def cpu_s(what: Any) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


def cpu_ms(what: Any) -> float:
    return 1000 * cpu_s(what)


def resident_mb() -> float:
    """Of this process, now; Linux only, else its peak."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except FileNotFoundError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
