"""Tells a session's story from its rows: one pass, no model, the same rows always the same story."""

import re
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.projections.file_work import FilesWorked
from session_mgmt_mcp.projections.open_items import open_items
from session_mgmt_mcp.projections.outcomes import never_ran, refused_by_user
from session_mgmt_mcp.projections.plain_text import one_line
from session_mgmt_mcp.projections.quality import facts_of
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.shell_work import ShellWork
from session_mgmt_mcp.projections.story import Note, Run, Story
from session_mgmt_mcp.projections.todos import Todos

PROMPT_CHARS_MAX = 400
REPLY_CHARS_MAX = 600
NOTE_CHARS_MAX = 600
PROMPTS_MAX = 400
ASKED_MAX = 12
GOALS_MAX = 2
PENDING_MAX = 1000
DECISIONS_MAX = 100
TODOS_MAX = 20

_SHELLS = frozenset(
    ("bash", "shell", "powershell", "run_shell_command", "execute_command", "terminal", "run_in_terminal", "exec_command",
     "local_shell", "run_command", "run_terminal_cmd")
)  # fmt: skip
_TAGGED = re.compile(r"\n#([^\n]+)\Z")
_DECISIONS = ("decision", "preference", "pitfall")
_ANSWER = re.compile(r'"((?:[^"]|"(?!=)){1,600})"="(.{0,2000}?)"(?=, "|\. You can now|\s*\Z)', re.DOTALL)
_SAID = re.compile(
    r"(?:the user said:|the following reason for the rejection:|user feedback:)\s*(.+?)(?:\n\nNote:|\Z)",
    re.DOTALL,
)
_CLARIFY = "The user wants to clarify"  # what the client says where a question was put aside
_HEADING = re.compile(r"^[ \t]*#+[ \t]*(\S.*)$", re.MULTILINE)
_WORD = re.compile(r"\w{4,}")
# Commands of the client's that ask for nothing
_HOUSEKEEPING = re.compile(
    r"/?(?:clear|compact|model|login|logout|exit|quit|cost|status|doctor|mcp|config|help|resume|plugin|usage|context|memory"
    r"|permissions|hooks|agents|ide|terminal-setup|vim|theme|rewind|export|fast|effort|upgrade|bug|release-notes|add-dir|rename)\b"
)


_ACTS = frozenset(("PromptSubmitted", "AssistantReplied", "ToolCalled"))
_TITLES = {"agent": 0, "summary": 1, "ai": 2, "custom": 3}  # the last of the strongest counts


_FILLING = (
    "yes yeah yep ok okay sure no nope please go ahead do it that this lets let's the a an was is idea on continue sounds good "
    "great nice cool thanks thank you and now fine perfect proceed can could we i to of for with so just me then next also what "
    "about how why hm hmm oh well right done are be not but if in your my think"
)
_FILLERS = frozenset(_FILLING.split())


class _Call(NamedTuple):
    """A tool call that waits for its result."""

    row: Row
    moment: int


class Teller:
    """Takes a session's rows in the order they happened. `root`: the project's; "" to take the folder most rows name."""

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._moment = 0  # how many rows were taken: the order, which positions are not
        self._first: Row | None = None
        self._last_position = self._first_position = 0
        self._started_at = self._ended_at = 0
        self._folders: Counter[str] = Counter()
        self._branch = self._end = self._title = ""
        self._title_strength = -1
        self._prompts: deque[tuple[int, Note]] = deque(maxlen=PROMPTS_MAX)
        self._first_prompts: list[Note] = []
        self._pending: dict[str, _Call] = {}
        self._reply: tuple[int, Note, str] | None = None
        self._interrupted: tuple[int, int] | None = None
        self._decisions: deque[Note] = deque(maxlen=DECISIONS_MAX)
        self._corrections: deque[Note] = deque(maxlen=DECISIONS_MAX)
        self._notes: deque[Note] = deque(maxlen=20)
        self._compactions = 0
        self._compacting = False
        self._counts: Counter[str] = Counter()
        self._files = FilesWorked()
        self._shells = ShellWork(self._files.changed_between)
        self._todos = Todos()

    def take(self, row: Row) -> None:
        """The next row."""
        self._moment += 1
        if self._first is None:
            self._first, self._first_position = row, row.position
        self._first_position = min(self._first_position, row.position)
        self._last_position = max(self._last_position, row.position)
        if row.occurred_at:
            self._started_at = min(self._started_at or row.occurred_at, row.occurred_at)
            self._ended_at = max(self._ended_at, row.occurred_at)
        if row.project:
            self._folders[row.project] += 1
        self._branch = row.branch or self._branch
        if row.kind in _ACTS:
            self._compacting = False
        if take := _TAKES.get(row.kind):
            take(self, row)

    # what was said ----------------------------------------------------------------------------------------------

    def _prompt(self, row: Row) -> None:
        text = one_line(row.text, PROMPT_CHARS_MAX)
        if not text:
            return
        self._end = ""
        note = Note(text, row.position)
        self._prompts.append((self._moment, note))
        if len(self._first_prompts) < PROMPTS_MAX // 10:
            self._first_prompts.append(note)

    def _replied(self, row: Row) -> None:
        if row.actor.startswith("agent:"):
            return
        self._reply = (
            self._moment,
            Note(one_line(row.text, REPLY_CHARS_MAX), row.position),
            row.text[-2000:],
        )

    def _noted(self, row: Row) -> None:
        if row.origin == "interruption":
            self._interrupted = (self._moment, row.position)
            self._counts["interruptions"] += 1
        elif row.origin == "plan":
            note = Note(_plan_title(row.text.partition(":")[2]), row.position, "plan")
            self._decisions.append(note)
            self._prompts.append((self._moment, note))
            self._first_prompts.append(note)
        elif row.origin == "slash-command" and not (self._first_prompts or _HOUSEKEEPING.match(row.text)):
            self._first_prompts.append(Note(one_line(row.text, PROMPT_CHARS_MAX), row.position, "command"))

    def _titled(self, row: Row) -> None:
        strength = _TITLES.get(row.origin, -1)
        if strength >= self._title_strength and not row.leaf:  # a leaf: the summary may be of another session
            self._title, self._title_strength = one_line(row.text, 160), strength

    def _compacted(self, row: Row) -> None:
        # A hook, a boundary and a summary tell of one compaction: nothing happens between them
        self._compactions += not self._compacting
        self._compacting = True

    def _ended(self, row: Row) -> None:
        self._end = row.reason or "ended"
        self._add_note(row)

    def _checkpointed(self, row: Row) -> None:
        self._add_note(row)

    def _add_note(self, row: Row) -> None:
        if row.text.strip():
            self._notes.append(Note(one_line(row.text, NOTE_CHARS_MAX), row.position, row.reason))

    def _remembered(self, row: Row) -> None:
        self._decisions.append(reflection_note(row))

    # what was done ----------------------------------------------------------------------------------------------

    def _called(self, row: Row) -> None:
        self._end = ""
        self._counts["tool_calls"] += 1
        if not row.tool_use_id:  # nothing will say how it went
            self._files.take(row, self._moment)
            return
        if len(self._pending) >= PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        self._pending[row.tool_use_id] = _Call(row, self._moment)

    def _returned(self, row: Row) -> None:
        call = self._pending.pop(row.tool_use_id, None)
        if call is None:
            return
        called = call.row
        if never_ran(row.text, row.is_error):
            if refused_by_user(row.text):
                self._refused(called, row)
            return
        if row.is_error:
            self._counts["tool_failures"] += 1
        name = called.tool.rpartition("__")[2].lower()
        if name in _SHELLS:
            time = row.occurred_at or called.occurred_at
            self._shells.take(called.text, row.text, row.is_error, called.position, self._moment, time)
        elif row.is_error:
            return
        elif name in ("exitplanmode", "exit_plan_mode"):
            if "approved" in row.text[:200]:
                self._decisions.append(Note(_plan_title(called.text), called.position, "plan"))
        elif name in ("askuserquestion", "ask_user_question"):
            for question, answer in _ANSWER.findall(row.text[:8000]):
                text = f"{one_line(question, 160)} → {one_line(answer, 240)}"
                self._decisions.append(Note(text, row.position, "answer"))
        else:
            self._files.take(called, self._moment)
            self._todos.take(called.tool, called.text, row.text, called.position)

    def _refused(self, called: Row, row: Row) -> None:
        self._counts["refused"] += 1
        said = _SAID.search(row.text[:8000])
        if said and not said[1].startswith(_CLARIFY):
            self._corrections.append(Note(one_line(said[1], PROMPT_CHARS_MAX), row.position))

    # the story --------------------------------------------------------------------------------------------------

    def story(self) -> Story:
        """Of what was taken so far."""
        if self._first is None:
            return Story(session="")
        root = self._root or self._home()
        last_commit = self._shells.commit_moments[-1] if self._shells.commit_moments else None
        last_test = self._shells.test_moments[-1] if self._shells.test_moments else None
        files = self._files.work(root, last_commit[0] if last_commit else None, last_test)
        failing = self._shells.still_failing()
        story = Story(
            session=self._first.session,
            assistant=self._first.assistant,
            project=root,
            branch=self._branch,
            title=self._title,
            started_at=self._started_at,
            ended_at=self._ended_at,
            first_position=self._first_position,
            last_position=self._last_position,
            rows=self._moment,
            end=self._end,
            goal=self._goal(),
            asked=self._asked(),
            files=files,
            commands=tuple(self._shells.uses()),
            commits=tuple(self._shells.commits),
            runs=tuple(self._shells.runs),
            decisions=tuple(self._decisions),
            corrections=tuple(self._corrections),
            failures=tuple(self._shells.all_failures()),
            notes=tuple(self._notes),
            last_prompt=self._prompts[-1][1] if self._prompts else None,
            last_reply=self._reply[1] if self._reply else None,
            compactions=self._compactions,
        )
        story = msgspec.structs.replace(story, decisions=_without(story.decisions, story.goal))
        left = self._open_items(story, failing)
        counts = dict(self._counts)
        counts["reverts"] = len(self._shells.reverts)
        counts["undone_edits"] = self._files.undone
        minutes = None
        if last_commit and last_commit[1] and self._ended_at:
            minutes = max(0, self._ended_at - last_commit[1]) // 60_000_000
        facts = facts_of(story, counts, minutes)
        return msgspec.structs.replace(story, open_items=left, facts=facts)

    def _home(self) -> str:
        """The folder most rows name."""
        if not self._folders:
            return ""
        return max(self._folders, key=lambda folder: (self._folders[folder], -len(folder)))

    def _goal(self) -> tuple[Note, ...]:
        telling = [note for note in self._first_prompts if note.kind or says_something(note.text)]
        goal = telling[:1] + [
            note for note in telling[1:3] if note.kind == "plan" or telling[0].kind == "command"
        ]
        return tuple(goal[:GOALS_MAX]) or tuple(self._first_prompts[:1])

    def _asked(self) -> tuple[Note, ...]:
        """Later prompts that bring up something else: at least half of their longer words were not asked before."""
        goal = {note.position for note in self._goal()}
        known: set[str] = set()
        out: list[Note] = []
        for _, note in self._prompts:
            words = set(_WORD.findall(note.text.lower()))
            if (
                note.position not in goal
                and says_something(note.text)
                and len(words - known) * 2 >= len(words)
            ):
                out.append(note)
            known |= words
        return tuple(out[-ASKED_MAX:])

    def _open_items(self, story: Story, failing: list[tuple[Run, Run | None]]) -> tuple[Note, ...]:
        prompted = self._prompts[-1] if self._prompts else None
        pending = [call for call in self._pending.values() if prompted is None or call.moment > prompted[0]]
        return open_items(
            story,
            failing=failing,
            unfinished=self._todos.unfinished()[:TODOS_MAX],
            prompted=prompted,
            replied=self._reply,
            interrupted=self._interrupted,
            running=[call.row for call in pending],
        )


def session_story(rows: Iterable[Row], root: str = "") -> Story:
    """The story of one session from its shown rows in the order they happened (`Views.session_rows`). Reads them once,
    keeps little of them. `root`: the project's root; without it the folder most rows name.
    """
    teller = Teller(root)
    for row in rows:
        teller.take(row)
    return teller.story()


def _without(notes: tuple[Note, ...], told: tuple[Note, ...]) -> tuple[Note, ...]:
    return tuple(note for note in notes if note not in told)


def reflection_note(row: Row) -> Note:
    """A reflection, its kind the first of its tags that says what it is; other tags stand behind the text."""
    text, tags = row.text, list[str]()
    if found := _TAGGED.search(text):
        tags = [tag.strip() for tag in f" {found[0].strip()}".split(" #") if tag.strip()]
        text = text[: found.start()]
    kind = next((tag for tag in _DECISIONS if tag in tags), "reflection")
    others = "".join(f" #{tag}" for tag in tags if tag != kind)
    return Note(one_line(f"{text}{others}", NOTE_CHARS_MAX), row.position, kind)


def says_something(text: str) -> bool:
    """Whether a prompt asks for something by itself; `yes, let's do that` and its kin do not."""
    if not text.isascii() and len(text) >= 12:
        return True  # words may not be spaced
    return sum(word not in _FILLERS for word in re.findall(r"[^\s,.;:!?]+", text.lower())) >= 3


def _plan_title(text: str) -> str:
    text = text[:4000].removeprefix("plan: ").strip()
    found = _HEADING.search(text)
    return one_line(found[1] if found else text.split("\n")[0], 200)


_TAKES = {
    "PromptSubmitted": Teller._prompt,
    "AssistantReplied": Teller._replied,
    "ToolCalled": Teller._called,
    "ToolReturned": Teller._returned,
    "ContextCompacted": Teller._compacted,
    "SessionEnded": Teller._ended,
    "SessionCheckpointed": Teller._checkpointed,
    "SessionTitled": Teller._titled,
    "ReflectionRemembered": Teller._remembered,
    "ContextNoted": Teller._noted,
}
