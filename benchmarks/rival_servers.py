"""Two memory servers from their packages, each in an environment of its own, without a network.

mcp-memory-service keeps passages with vectors in SQLite; agentsview reads transcripts into SQLite FTS5. Both take their
embeddings from an endpoint like OpenAI's: here one that serves our own model, so that everybody compares the same vectors.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PACKAGES = {"mcp-memory-service": "12.2.0", "agentsview": "0.46.1"}
LIMIT = 100  # results asked for: sessions repeat among them
TIMED_LIMIT = 10  # results asked for where time is taken
_CHILD = Path(__file__).with_name("rival_memory_child.py")
Embed = Callable[[Sequence[str]], Any]
Found = list[list[tuple[str, float]]]  # a query's sessions with their scores, best first


def environment(package: str, folder: Path) -> Path:
    """The bin folder of a virtual environment with this package, made where it is not there. Raises RuntimeError."""
    home = folder / f"env-{package}"
    done = home / "complete"
    if not done.exists():
        subprocess.run([_python(package), "-m", "venv", "--clear", str(home)], check=True)
        wanted = f"{package}=={PACKAGES[package]}"
        made = subprocess.run(
            [str(home / "bin" / "pip"), "install", "-q", wanted], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise RuntimeError(f"{wanted} could not be installed: {made.stderr.strip()[-800:]}")
        done.touch()
    return home / "bin"


def _python(package: str) -> str:
    """mcp-memory-service loads an extension into SQLite, which not every build of Python can."""
    if package != "mcp-memory-service":
        return sys.executable
    probe = "import sqlite3, sys; sys.exit(not hasattr(sqlite3.Connection, 'enable_load_extension'))"
    for program in (
        sys.executable,
        "/usr/bin/python3",
        "/usr/local/bin/python3",
        "/opt/homebrew/bin/python3",
    ):
        if os.path.exists(program) and subprocess.run([program, "-c", probe], check=False).returncode == 0:
            return program
    raise RuntimeError("no Python here whose SQLite loads extensions; mcp-memory-service needs one")


@contextlib.contextmanager
def embedding_endpoint(embed: Embed, model: str) -> Iterator[str]:
    """An endpoint like OpenAI's on this machine; its address, without /embeddings."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            vectors = [vector.tolist() for vector in embed(texts)]
            data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
            usage = {"prompt_tokens": 0, "total_tokens": 0}
            body = json.dumps({"object": "list", "model": model, "data": data, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def memory_service(
    folder: Path,
    scratch: Path,
    endpoint: str,
    memories: Sequence[tuple[str, list[str]]],
    queries: Sequence[str],
) -> dict[str, tuple[Found, list[float]]]:
    """Its two searches over these passages: the sessions found for each query, and ms a query. Raises RuntimeError."""
    python = environment("mcp-memory-service", folder) / "python"
    own = {
        "HOME": str(scratch),
        "PATH": os.environ["PATH"],
        "MCP_EXTERNAL_EMBEDDING_URL": f"{endpoint}/embeddings",
        "MCP_EXTERNAL_EMBEDDING_MODEL": "shipped",
        "MCP_MEMORY_STORAGE_BACKEND": "sqlite_vec",
        "MCP_MEMORY_OFFLINE": "1",
    }
    asked = {
        "database": str(scratch / "memory.db"),
        "memories": memories,
        "queries": queries,
        "limit": LIMIT,
        "timed_limit": TIMED_LIMIT,
    }
    done = subprocess.run(
        [str(python), str(_CHILD)],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        env=own,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"mcp-memory-service ended with {done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1])
    names = {"retrieve": "mcp-memory-service, vectors", "retrieve_hybrid": "mcp-memory-service, hybrid"}
    out = {}
    for name, result in answer["searches"].items():
        found = [[(s, score) for sessions, score in results for s in sessions] for results in result["found"]]
        out[names[name]] = (found, result["ms"])
    return out


def agentsview(
    folder: Path, scratch: Path, endpoint: str, transcripts: Path, dimension: int, queries: Sequence[str]
) -> dict[str, tuple[Found, list[float]]]:
    """Its full-text and hybrid searches over these transcripts, over HTTP. Raises RuntimeError, OSError."""
    program = environment("agentsview", folder) / "agentsview"
    data = scratch / "agentsview"
    data.mkdir()
    (data / "config.toml").write_text(
        f'[vector]\nenabled = true\n[vector.embeddings]\nmodel = "shipped"\ndimension = {dimension}\n'
        f'[vector.embeddings.servers.local]\nendpoint = "{endpoint}"\nconcurrency = 1\n[vector.embed]\nrun_after_sync = false\n'
    )
    own = {
        "HOME": str(scratch),
        "PATH": os.environ["PATH"],
        "AGENTSVIEW_DATA_DIR": str(data),
        "CLAUDE_PROJECTS_DIR": str(transcripts),
        "AGENTSVIEW_TELEMETRY_ENABLED": "0",
        "DO_NOT_TRACK": "1",
    }

    def call(*words: str) -> str:
        done = subprocess.run([str(program), *words], capture_output=True, text=True, env=own, check=False)
        if done.returncode:
            raise RuntimeError(f"agentsview {' '.join(words)}: {(done.stderr or done.stdout).strip()[-800:]}")
        return done.stdout + done.stderr

    try:
        said = call("sync")
        address = next(word for word in said.split() if word.startswith("http://"))
        out = {}
        searches = (("full text, all words", "terms"), ("full text, any word", "fts"), ("hybrid", "hybrid"))
        for name, mode in searches:
            if mode == "hybrid":
                print(call("embeddings", "build", "--yes")[-300:], file=sys.stderr)
            asked = [_any_word(query) for query in queries] if mode == "fts" else queries
            out[f"agentsview, {name}"] = _asked(address, mode, asked)
        return out
    finally:
        subprocess.run([str(program), "daemon", "stop"], capture_output=True, env=own, check=False)


def _any_word(query: str) -> str:
    """In the syntax of its index; as typed, all words must be there."""
    return " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))


def _asked(address: str, mode: str, queries: Sequence[str]) -> tuple[Found, list[float]]:
    found: Found = []
    taken = []
    for query in (*queries[:1], *queries):  # the first one warms up
        before = time.perf_counter()
        _matches(address, mode, query, TIMED_LIMIT)
        taken.append((time.perf_counter() - before) * 1e3)
        results = _matches(address, mode, query, LIMIT)
        found.append([(match["session_id"], 1.0 / (1 + at)) for at, match in enumerate(results)])
    return found[1:], taken[1:]


def _matches(address: str, mode: str, query: str, limit: int) -> list[dict[str, Any]]:
    asked = {"pattern": query, "mode": mode, "limit": limit}
    words = {**asked, "include_one_shot": "true", "include_children": "true"}
    url = f"{address}/api/v1/search/content?{urllib.parse.urlencode(words)}"
    request = urllib.request.Request(url, headers={"X-AgentsView-Search-Intent": "semantic"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        matches: list[dict[str, Any]] = json.load(answer)["matches"]
    return matches
