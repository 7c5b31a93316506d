"""What a session was about and came to. `telling` makes it from the rows alone; no model has a hand in it."""

import msgspec


class Note(msgspec.Struct, frozen=True):
    """Something said, and where. `text` is one line that may be quoted (`plain_text.one_line`)."""

    text: str
    position: int
    kind: str = (
        ""  # of a decision: decision | preference | pitfall | plan | answer; of an open item: see `Story`
    )


class FileWork(msgspec.Struct, frozen=True):
    """What was done to a file. Relative to the project where it lies within."""

    path: str
    edits: int
    writes: int
    position: int  # of the last change
    reads: int = 0
    outside: bool = False  # of the project
    committed: bool = False  # a commit was seen after its last change
    tested: bool = False  # a test run was seen after its last change


class Run(msgspec.Struct, frozen=True):
    """A run of tests, a linter, a type checker or a build. Numbers are None where the output does not tell them."""

    kind: str  # test | lint | types | build
    runner: str  # such as `pytest`, `npm test`
    command: str
    position: int
    ok: bool | None  # None: cannot be told
    passed: int | None = None
    failed: int | None = None
    skipped: int | None = None
    unit: str = "tests"  # what was counted: tests, or packages
    found: int | None = None  # problems a linter or type checker counted
    names: tuple[str, ...] = ()  # of failed tests, a few
    whole: bool = False  # no path and no pattern narrowed it


class Commit(msgspec.Struct, frozen=True):
    """A commit the session made."""

    subject: str
    hash: str  # abbreviated, "" where the output does not show it
    branch: str
    position: int


class Failure(msgspec.Struct, frozen=True):
    """A command that failed, and what came of it."""

    what: str  # the runner or the command
    gist: str  # the line of its output that tells most; "" where none does
    position: int  # of the first failure
    times: int
    fixed_at: int = 0  # position of the run that succeeded; 0 where none was seen
    fixed_by: tuple[str, ...] = ()  # files changed in between


class CommandUse(msgspec.Struct, frozen=True):
    """A command that changed something or was run again and again."""

    command: str
    times: int
    failed: int
    position: int  # of the last time


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A session. Lists are in the order things happened; `open_items` the most pressing first. Kinds of open items:
    unanswered | interrupted | running | test | lint | types | build | todo | uncommitted | question.
    """

    session: str
    assistant: str = ""
    project: str = ""  # the folder paths are relative to
    branch: str = ""
    title: str = ""
    started_at: int = 0  # µs since the epoch, 0 where unknown
    ended_at: int = 0
    first_position: int = 0
    last_position: int = 0
    rows: int = 0
    end: str = ""  # the reason it ended with; "" while it is open
    goal: tuple[Note, ...] = ()
    asked: tuple[Note, ...] = ()  # later prompts that ask for something else
    files: tuple[FileWork, ...] = ()
    commands: tuple[CommandUse, ...] = ()
    commits: tuple[Commit, ...] = ()
    runs: tuple[Run, ...] = ()
    decisions: tuple[Note, ...] = ()
    corrections: tuple[Note, ...] = ()  # what the user said when refusing a tool call
    failures: tuple[Failure, ...] = ()
    open_items: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()  # added to checkpoints
    last_prompt: Note | None = None
    last_reply: Note | None = None
    compactions: int = 0
    facts: dict[str, int] = {}  # see `quality`

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked and nothing done: not worth telling."""
        return not (self.goal or self.files or self.runs or self.commits or self.decisions or self.last_reply)
