"""Power cuts while the projections are published: what is left answers as the log does, and is brought up to the same."""

import random
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import duckdb
import pyarrow.parquet as pq
import pytest
from action_log import call, forgotten, hook_prompt, prompt, reply, returned
from memory_log import MemoryLog
from sim_views import Recorder, Tree, lay_out
from sim_world import scratch_folder

from session_mgmt_mcp.projections import lexical_writer, query, query_base
from session_mgmt_mcp.projections.publish import digest, purge, replay, update
from session_mgmt_mcp.projections.views import Views

pytestmark = pytest.mark.slow

SESSIONS = 3
SECRET = "xylophonesesame"
WORDS = ("step1", "password", "done", SECRET, "again s-1")
STATES = 30  # of each case, where it has so many


class Case(NamedTuple):
    """One publication: what was published before, what was appended, what is called."""

    turns_before: int  # 0: nothing is published
    turns: int
    publish: Callable[[MemoryLog, Path], object]
    folds: bool = False  # into a DuckDB base
    forgets: bool = False


def _purge(log: MemoryLog, folder: Path) -> object:
    return purge(log, folder, [1])


CASES = {
    "the first update": Case(0, 3, update),
    "an update": Case(2, 1, update),
    "an update that folds": Case(2, 1, update, folds=True),
    "an update that hides": Case(3, 0, update, forgets=True),
    "a replay": Case(3, 0, replay),
    "a replay to a base": Case(3, 0, replay, folds=True),
    "a purge": Case(3, 0, _purge, forgets=True),
}
FAST_CASES = ("an update", "an update that hides")
RULES = (  # each without its syncs: a published state may name files that are not there or not whole
    (query, "an update"),
    (query_base, "an update that folds"),
    (lexical_writer, "a replay"),
)


def _turns(log: MemoryLog, first: int, count: int) -> None:
    for n in range(first, first + count):
        for s in range(SESSIONS):
            name, at = f"s-{s}", n * 10
            text = f"the password is {SECRET}" if (n, s) == (0, 0) else f"try step{n} again in {name}"
            log.append(
                [
                    prompt(name, f"u-{name}-{n}", text, at),
                    hook_prompt(name, text, at),
                    call(name, f"c-{name}-{n}", f"t-{name}-{n}", "Bash", {"command": f"make step{n}"}, at),
                    returned(name, f"r-{name}-{n}", f"t-{name}-{n}", f"step{n} was made", at + 2),
                    reply(name, f"a-{name}-{n}", f"Step {n} of {name} is done.", at + 3),
                ]
            )
    log.seal()


@pytest.fixture
def scratch() -> Iterator[Path]:
    path = Path(scratch_folder())
    yield path
    shutil.rmtree(path)


def _answers(log: MemoryLog, folder: Path) -> list[Any]:
    """What people are told: every session, every turn, every moment found, the counts."""
    views = Views(log, folder)
    try:
        status = views.status()
        found = [
            sorted((m.session, m.position, m.kind, m.excerpt) for m in views.search(word, limit=100))
            for word in WORDS
        ]
        pages = [views.timeline(session=f"s-{s}", limit=1000).turns for s in range(SESSIONS)]
        return [status.kinds, status.sessions, views.sessions(), pages, *found]
    finally:
        views.close()


class Publication:
    """One case, recorded, and what each state of it is judged by."""

    def __init__(self, case: Case, scratch: Path, seed: int) -> None:
        self.case, self.scratch, self.log = case, scratch, MemoryLog()
        folder = scratch / "live"
        (folder / "views").mkdir(parents=True)
        if case.turns_before:
            _turns(self.log, 0, case.turns_before)
            update(self.log, folder)
        self.before = self.log.sealed().position
        _turns(self.log, case.turns_before, case.turns)
        if case.forgets:
            for position in (1, 2):
                self.log.forget(position)
            self.log.append([forgotten((), (1, 2))])
            self.log.seal()
        recorder = Recorder(folder / "views", random.Random(seed))
        with recorder.recording():
            case.publish(self.log, folder)
        self.states, self.last = list(recorder.states.values()), recorder.last
        self.answers = _answers(self.log, scratch / "nothing")
        replay(self.log, scratch / "fresh")
        self.digest = digest(scratch / "fresh")

    def prove(self, tree: Tree) -> list[str]:
        """What is wrong with the views that a cut left."""
        folder = self.scratch / "copy"
        lay_out(tree, folder / "views")
        try:
            wrong = []
            if _answers(self.log, folder) != self.answers:
                wrong.append("the answers are not the log's")
            done = update(self.log, folder)
            if self._is_lost(done["events"], done["indexed"]):
                wrong.append("what was published is lost")
            if digest(folder) != self.digest:
                wrong.append("the next update gives other views than a replay")
            if done["events"] + done["indexed"] and _answers(self.log, folder) != self.answers:
                wrong.append("the answers after the next update are not the log's")
            return wrong
        finally:
            _remove(folder)

    def _is_lost(self, events: int, indexed: int) -> bool:
        """Whether the update took more than what was not published: a state before or after was to be found."""
        if not self.before or self.case.forgets:  # then it may have to begin with nothing
            return False
        return max(events, indexed) > self.log.sealed().position - self.before


def _publication(name: str, scratch: Path, seed: int) -> Publication:
    with mock.patch.object(query_base, "DELTA_ROWS_FREE", 0 if CASES[name].folds else 5_000):
        return Publication(CASES[name], scratch, seed)


def _remove(folder: Path) -> None:
    """The index's own threads may still be writing to it."""
    for left in reversed(range(200)):
        try:
            shutil.rmtree(folder)
            return
        except OSError:
            if not left:
                raise


def _wrong(name: str, scratch: Path, seed: int, states: int) -> list[str]:
    """What is wrong with that many states of a case, chosen by the seed."""
    made = _publication(name, scratch, seed)
    chosen = random.Random(seed).sample(made.states, min(states, len(made.states)))
    return [what for tree in chosen for what in made.prove(tree)]


def _holding(tree: Tree, text: bytes) -> list[str]:
    """Files that hold the text, as it is or in a Parquet column."""
    found = []
    for path, content in tree.items():
        raw = content or b""
        if path.endswith(".parquet") and raw.endswith(b"PAR1"):
            raw += repr(pq.read_table(BytesIO(raw)).to_pylist()).encode()
        if text in raw:
            found.append(path)
    return found


@pytest.mark.parametrize("name", FAST_CASES)
def test_views_left_by_a_cut_answer_as_the_log_does(name: str, scratch: Path) -> None:
    assert _wrong(name, scratch, 1, 1) == []


@pytest.mark.parametrize("name", CASES)
def test_many_views_left_by_cuts_answer_as_the_log_does(name: str, scratch: Path) -> None:
    assert _wrong(name, scratch, 2, STATES) == []


def test_what_was_forgotten_stays_away_after_a_purge_and_a_cut(scratch: Path) -> None:
    made = _publication("a purge", scratch, 1)
    assert any(_holding(tree, SECRET.encode()) for tree in made.states)
    assert [_holding(tree, SECRET.encode()) for tree in made.last] == [[]] * len(made.last)


@pytest.mark.parametrize(("module", "name"), RULES)
def test_views_published_without_a_rule_are_noticed(module: ModuleType, name: str, scratch: Path) -> None:
    with mock.patch.object(module, "fsync_path", lambda path: None):
        made = _publication(name, scratch, 3)
    assert any(_is_noticed(made, tree) for tree in made.states)


def _is_noticed(made: Publication, tree: Tree) -> bool:
    try:
        return bool(made.prove(tree))
    except duckdb.Error:  # a base that was cut, met while it was read
        return True
