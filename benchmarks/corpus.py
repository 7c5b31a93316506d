"""Histories generated after the shape of real ones (corpus_shape.py): seeded, so the same on every machine.

    python benchmarks/corpus.py --events 100000 --folder DIR [--no-views] [--transcripts DIR]

Fills a new data folder with the records of Claude Code sessions and publishes its views; prints what was made, how long
each step took and a hash over all records. `--transcripts` writes them as transcript files too, for other programs.
"""

import argparse
import hashlib
import itertools
import sys
import time
from bisect import bisect
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import corpus_shape as shape
import msgspec
import numpy as np
from report import show

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.tools.app import App

SEED = 20260101
SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}
START_US = 1_735_700_000_000_000  # the first session
PACE = 20.0  # seconds between two records, in the mean of a log-normal
BATCH = 1000
_TABLE_BITS = 20
_SYLLABLES = np.array([a + b for a in "bcdfghjklmnprstvwz" for b in "aeio"], object)
_FREQUENT = (
    "the to and a of in is for it that with on this be as file test are not from we if you or an error code have "
    "by use can all function add so has when new let check no will now should run need data there which line type "
    "return at name value set import result class self but out one only call get user update change make work first "
    "session build fix read write find path tests string list key default config server client commit branch"
)
_STOCK = 40  # short texts that results and notes repeat in every project
_RECENT = 300  # texts of a project that may be repeated
_NEXT = {  # kind -> the sums of the shares of what follows it, and what follows
    kind: (list(itertools.accumulate(shares.values())), list(shares))
    for kind, shares in shape.FOLLOWS.items()
}
_encode = msgspec.json.encode
Array = Any


class Record(NamedTuple):
    """One record of a transcript."""

    session: str
    uuid: str
    occurred_at: int  # µs since the epoch
    body: dict[str, Any]


class Corpus:
    """Endless sessions, the same for the same seed."""

    def __init__(self, seed: int = SEED) -> None:
        self.seed = seed
        self._rng = np.random.default_rng(seed)
        self._words = self._vocabulary()
        self._table = _zipf_table(len(self._words))
        self._projects = [_Project(self._rng, self._words, n) for n in range(shape.PROJECTS)]
        self._stock = [" ".join(self._rng.choice(self._words[:3000], 1 + n % 9)) for n in range(_STOCK)]
        self._numbers = np.array([str(n) for n in range(3000)], object)
        self._now = START_US
        self._begun: list[list[tuple[str, str, str]]] = []  # first rows of some sessions: kind, tool, text

    def _vocabulary(self) -> Array:
        """Frequent words as they are, the rest of syllables: shorter ones first."""
        found = dict.fromkeys(_FREQUENT.split())
        while len(found) < shape.VOCABULARY:
            size = 2 + min(3, len(found) // 2500)
            found[_word(self._rng, int(self._rng.integers(2, size + 1)))] = None
        return np.array(list(found), object)

    def sessions(self) -> Iterator[list[Record]]:
        for number in itertools.count():
            yield self._session(number)

    def records(self, count: int) -> Iterator[Record]:
        """So many records."""
        return itertools.islice(itertools.chain.from_iterable(self.sessions()), count)

    # -- one session ---------------------------------------------------------------------------------------------

    def _session(self, number: int) -> list[Record]:
        rng = self._rng
        project = self._projects[min(shape.PROJECTS, int(rng.zipf(1.3))) - 1]
        kinds = self._kinds(max(1, int(_quantile(rng, shape.SESSION_ROWS, 1)[0])))
        texts = self._texts(kinds, project)
        rows = [(kind, *text) for kind, text in zip(kinds, texts, strict=True)]
        if self._begun and rng.random() < shape.COPIED_SESSIONS:
            rows[:0] = self._begun[int(rng.integers(len(self._begun)))]
        if number % 10 == 0:
            self._begun.append(rows[: int(rng.integers(1, shape.COPIED_ROWS_MAX))])
        return self._recorded(number, project, rows)

    def _kinds(self, count: int) -> list[str]:
        out, last = [], "start"
        for draw in self._rng.random(count):
            edges, names = _NEXT[last]
            last = names[min(bisect(edges, draw), len(names) - 1)]
            out.append(last)
        return out

    def _texts(self, kinds: list[str], project: "_Project") -> list[tuple[str, str]]:
        """(tool, text) of every row; the text of an edit follows its path after a line break."""
        rng = self._rng
        groups = [kind if kind in ("call", "result") else "said" for kind in kinds]
        tools = rng.choice(list(shape.TOOLS), len(kinds), p=_shares(shape.TOOLS))
        named = [
            "edit" if k == "call" and t in ("Edit", "Write") else k for k, t in zip(kinds, tools, strict=True)
        ]
        draws = {
            kind: iter(_quantile(rng, shape.LENGTHS[kind], named.count(kind)))
            for kind in dict.fromkeys(named)
        }
        chars = np.array([next(draws[kind]) for kind in named])
        counts = np.maximum(1, chars / shape.TOKEN_CHARS).astype(int)
        words = self._tokens(np.repeat([list(shape.TOKENS).index(g) for g in groups], counts), project)
        ends = np.cumsum(counts).tolist()
        out = []
        for kind, tool, begin, end, size in zip(
            kinds, tools, [0, *ends], ends, chars.astype(int), strict=False
        ):
            text = " ".join(words[begin:end])[: max(1, size)]
            out.append((str(tool) if kind == "call" else "", self._repeated(kind, text, project)))
        return out

    def _repeated(self, kind: str, text: str, project: "_Project") -> str:
        """The text, or one that was said before: short ones are, mostly."""
        rng, recent = self._rng, project.recent.setdefault(kind, deque(maxlen=_RECENT))
        if recent and rng.random() < shape.REPEATED.get(kind, 0.0):
            among = self._stock if kind in ("result", "note") and rng.random() < 0.4 else recent
            return among[int(rng.integers(len(among)))]
        if len(text) < 400 or rng.random() < 0.3:
            recent.append(text)
        return text

    def _tokens(self, groups: Array, project: "_Project") -> list[str]:
        """A token for each entry of `groups` (numbers of TOKENS): common words, those of the project and the session."""
        rng, n = self._rng, len(groups)
        hashes = rng.bytes(4 * (2 + n // 200)).hex()
        own = [_word(rng, 4) for _ in range(shape.SESSION_WORDS)]
        parts = (
            self._words,
            project.identifiers,
            project.paths,
            self._numbers,
            own + list(project.topic(rng, self._words)),
            [hashes[i : i + 8] for i in range(0, len(hashes), 8)],
        )
        lexicon = np.concatenate([np.asarray(part, object) for part in parts])
        starts = np.cumsum([0, *map(len, parts)])

        def among(part: int, how_many: int) -> Array:
            """The first ones more often."""
            return starts[part] + (len(parts[part]) * rng.random(how_many) ** 3).astype(np.int64)

        index = self._table[rng.integers(0, len(self._table), n)].astype(np.int64)
        limits = np.cumsum(np.array(list(shape.TOKENS.values())), axis=1)
        draw, of = rng.random(n), limits[groups]
        for part in (1, 2, 3):
            chosen = draw >= of[:, part - 1]
            index[chosen] = among(part, int(chosen.sum()))
        special = rng.random(n)
        for part, low, high in ((4, 0.0, 0.05), (5, 0.05, 0.053)):
            chosen = (special >= low) & (special < high)
            index[chosen] = among(part, int(chosen.sum()))
        return list(lexicon[index])

    # -- as records ----------------------------------------------------------------------------------------------

    def _recorded(self, number: int, project: "_Project", rows: list[tuple[str, str, str]]) -> list[Record]:
        rng = self._rng
        session = hashlib.md5(f"{self.seed}/{number}".encode(), usedforsecurity=False).hexdigest()
        steps = rng.lognormal(0, 1.2, len(rows)) * PACE / 2 * 1e6
        files = project.paths[(len(project.paths) * rng.random(len(rows)) ** 3).astype(int)]
        out: list[Record] = []
        call, now, parent = "", self._now, ""
        for at, (kind, tool, text) in enumerate(rows):
            now += int(steps[at])
            uuid = f"{session[:20]}-{at}"
            if kind == "call":
                call = f"toolu_{uuid}"
            body = {
                "uuid": uuid,
                "parentUuid": parent,
                "sessionId": session,
                "timestamp": datetime.fromtimestamp(now / 1e6, UTC).isoformat(timespec="milliseconds"),
                "cwd": project.folder,
                "gitBranch": project.branches[number % len(project.branches)],
                "version": "2.0.0",
                **_body(kind, tool, text, str(files[at]), call, uuid),
            }
            out.append(Record(session, uuid, now, body))
            parent = uuid
        self._now = now + int(rng.exponential(1800e6))
        return out


class _Project:
    """A folder with its own files and identifiers."""

    def __init__(self, rng: Array, words: Array, number: int) -> None:
        def some(size: int, low: int, high: int) -> list[str]:
            return [str(words[i]) for i in rng.integers(low, high, size)]

        self.folder = f"/home/user/src/{words[300 + number]}-{words[900 + number]}"
        self.branches = ["main", *(f"feature/{a}-{b}" for a, b in itertools.pairwise(some(9, 100, 4000)))]
        folders = ["src", "tests", *(f"src/{w}" for w in some(12, 100, 3000))]
        stems = itertools.pairwise(some(shape.FILES_OF_A_PROJECT + 1, 100, 6000))
        self.paths = np.array(
            [f"{self.folder}/{folders[i % len(folders)]}/{a}_{b}.py" for i, (a, b) in enumerate(stems)],
            object,
        )
        pairs = itertools.pairwise(some(shape.IDENTIFIERS_OF_A_PROJECT + 1, 60, 8000))
        self.identifiers = np.array(
            [f"{a}_{b}" if i % 2 else f"{a}{b.title()}" for i, (a, b) in enumerate(pairs)], object
        )
        self.recent: dict[str, deque[str]] = {}

    def topic(self, rng: Array, words: Array) -> Array:
        """What a session is about: words that are rare elsewhere, some identifiers and files."""
        return np.concatenate(
            [
                words[rng.integers(500, len(words), 30)],
                self.identifiers[rng.integers(0, len(self.identifiers), 20)],
                self.paths[rng.integers(0, len(self.paths), 5)],
            ]
        )


def _body(kind: str, tool: str, text: str, file: str, call: str, uuid: str) -> dict[str, Any]:
    """What a record of this kind has beside the common fields."""
    if kind == "title":
        return {"type": "summary", "summary": text, "leafUuid": uuid}
    if kind in ("prompt", "note", "summary", "result"):
        flag = {"note": {"isMeta": True}, "summary": {"isCompactSummary": True}}.get(kind, {})
        block = [{"type": "tool_result", "tool_use_id": call, "content": text}] if kind == "result" else text
        return {"type": "user", **flag, "message": {"role": "user", "content": block}}
    if kind == "call":
        block = [{"type": "tool_use", "id": call, "name": tool, "input": _arguments(tool, text, file)}]
    elif kind == "thought":
        block = [{"type": "thinking", "thinking": text, "signature": ""}]
    else:
        block = [{"type": "text", "text": text}]
    usage = {"input_tokens": 12, "output_tokens": len(text) // 4, "cache_read_input_tokens": 20_000}
    message = {
        "id": f"msg_{uuid}",
        "role": "assistant",
        "model": "generated",
        "content": block,
        "usage": usage,
    }
    return {"type": "assistant", "message": message}


def _arguments(tool: str, text: str, file: str) -> dict[str, Any]:
    half = len(text) // 2
    if tool == "Bash":
        return {"command": text, "description": text[:40]}
    if tool == "Edit":
        return {"file_path": file, "old_string": text[:half], "new_string": text[half:]}
    if tool == "Write":
        return {"file_path": file, "content": text}
    if tool == "Read":
        return {"file_path": file, "offset": half}
    if tool in ("Grep", "Glob"):
        return {"pattern": text[:60], "path": file.rpartition("/")[0]}
    return {"description": text[:40], "prompt": text}


def _word(rng: Array, syllables: int) -> str:
    return "".join(_SYLLABLES[rng.integers(0, len(_SYLLABLES), syllables)])


def _shares(table: dict[str, float]) -> Array:
    values = np.array(list(table.values()))
    return values / values.sum()


def _quantile(rng: Array, values: tuple[int, ...], count: int) -> Array:
    """Draws whose logarithm lies evenly between the quantiles."""
    return np.exp(np.interp(rng.random(count), shape.QUANTILES, np.log(np.maximum(values, 1))))


def _zipf_table(size: int) -> Array:
    """Ranks, each as often as its word: an entry drawn evenly is a word drawn by its frequency."""
    ranks = np.arange(1, size + 1)
    logs = np.zeros(size)
    for begin, exponent in shape.ZIPF:
        after = ranks > begin
        logs[after] = logs[begin - 1] - exponent * np.log(ranks[after] / begin)
    frequency = np.exp(logs)
    edges = np.cumsum(frequency) / frequency.sum()
    return np.searchsorted(edges, (np.arange(1 << _TABLE_BITS) + 0.5) / (1 << _TABLE_BITS)).astype(np.uint32)


# -- into a log, into transcripts ------------------------------------------------------------------------------------


def event_of(record: Record) -> NewEvent:
    """The event an import of the record appends."""
    envelope = Envelope(
        stream=f"claude-code/{record.session}",
        event_type=EventType.RECORD_IMPORTED.value,
        schema_version=1,
        recorded_at=record.occurred_at,
        occurred_at=record.occurred_at,
        actor="unknown",
        source="record",
    )
    return NewEvent(capture_id("claude-code", "record", record.uuid), envelope, _encode(record.body))


def fill(folder: Path, count: int, *, views: bool = True, seed: int = SEED) -> dict[str, Any]:
    """A new data folder with so many events; seconds a step, bytes, and the records' hash."""
    digest, size, took = hashlib.sha256(), 0, {}
    started = time.perf_counter()
    with App.open(folder, create=True) as app:
        source = map(event_of, Corpus(seed).records(count))
        done = 0
        while batch := list(itertools.islice(source, BATCH)):
            app.log.append(batch, dedupe=False)
            for event in batch:
                digest.update(event.payload)
                size += len(event.payload)
            done += len(batch)
            if done % 50_000 == 0:
                print(f"{done:,} of {count:,} events", file=sys.stderr, flush=True)
        took["generate and append"] = time.perf_counter() - started
        if views:
            took |= _publish(app)
    return {"events": count, "bytes": size, "sha256": digest.hexdigest()[:16], "seconds": took}


def _publish(app: App) -> dict[str, float]:
    """Seal, and build the views; seconds of each step."""
    begun = {"seal": time.perf_counter()}
    app.log.roll()
    seal(app.log.folder, app.log.log_id)

    def stage(name: str, *_: int) -> None:
        begun.setdefault(f"{name} view", time.perf_counter())

    publish.update(app.log, app.folder, stage)
    ends = [*list(begun.values())[1:], time.perf_counter()]
    return {name: end - at for (name, at), end in zip(begun.items(), ends, strict=True)}


def write_transcripts(folder: Path, count: int, seed: int = SEED) -> int:
    """The same records as files of Claude Code below `folder`, a folder a project; how many files."""
    records = Corpus(seed).records(count)
    written = 0
    for session, of_session in itertools.groupby(records, lambda record: record.session):
        lines = list(of_session)
        project = folder / str(lines[0].body["cwd"]).replace("/", "-")
        project.mkdir(parents=True, exist_ok=True)
        (project / f"{session}.jsonl").write_bytes(b"\n".join(_encode(line.body) for line in lines) + b"\n")
        written += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="a data folder that is not there yet")
    parser.add_argument(
        "--no-views", action="store_true", help="leave the log unsealed and the views unbuilt"
    )
    parser.add_argument("--transcripts", type=Path, help="write transcript files below this folder")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    if args.transcripts:
        found["transcripts"] = write_transcripts(args.transcripts, args.events, args.seed)
    if args.folder:
        if args.folder.exists():
            parser.error(f"{args.folder} is there already; name a new folder")
        found |= fill(args.folder, args.events, views=not args.no_views, seed=args.seed)
    if not found:
        parser.error("name --folder or --transcripts, or both")
    show("corpus", found, as_json=args.json)


if __name__ == "__main__":
    main()
