"""What a session left open, as far as its rows show it."""

import posixpath
from collections.abc import Sequence

from session_mgmt_mcp.projections.plain_text import one_line
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.story import FileWork, Note, Run, Story
from session_mgmt_mcp.projections.todos import Todo

FILES_NAMED_MAX = 6
TODO_CHARS_MAX = 200
_PROSE = (".md", ".rst", ".txt", ".adoc")


def open_items(
    story: Story,
    *,
    failing: Sequence[tuple[Run, Run | None]],
    unfinished: Sequence[Todo],
    prompted: tuple[int, Note] | None,
    replied: tuple[int, Note, str] | None,
    interrupted: tuple[int, int] | None,
    running: Sequence[Row],
) -> tuple[Note, ...]:
    """The most pressing first. `prompted`, `replied`, `interrupted`: the moments of the last of each, with what was said;
    `running`: calls since the last prompt that no result was recorded of.
    """
    out = list(_broken_off(story, prompted, replied, interrupted, running))
    out += [_failing(run, later) for run, later in failing]
    out += [
        Note(
            ("begun: " if todo.begun else "to do: ") + one_line(todo.text, TODO_CHARS_MAX),
            todo.position,
            "todo",
        )
        for todo in unfinished
    ]
    if note := _uncommitted(story):
        out.append(note)
    if replied and prompted and replied[0] > prompted[0] and (question := _question(replied[2])):
        out.append(Note(f"the assistant asked: {question}", replied[1].position, "question"))
    return tuple(out)


def _broken_off(
    story: Story,
    prompted: tuple[int, Note] | None,
    replied: tuple[int, Note, str] | None,
    interrupted: tuple[int, int] | None,
    running: Sequence[Row],
) -> list[Note]:
    """A turn that did not come to its end."""
    out = []
    for row in running[-3:]:
        text = one_line(row.text.split("\n")[0], TODO_CHARS_MAX)
        out.append(
            Note(f"no result was recorded of {one_line(row.tool, 60)}: {text}", row.position, "running")
        )
    if prompted is None:
        return out
    moment, prompt = prompted
    if interrupted and interrupted[0] > moment and (replied is None or replied[0] < interrupted[0]):
        out.insert(
            0,
            Note(
                f"the user interrupted the work on: {one_line(prompt.text, 160)}",
                interrupted[1],
                "interrupted",
            ),
        )
    elif (replied is None or replied[0] < moment) and prompt.kind != "plan":
        out.insert(
            0, Note(f"no reply was recorded to: {one_line(prompt.text, 240)}", prompt.position, "unanswered")
        )
    return out


def _failing(run: Run, later: Run | None) -> Note:
    text = f"{run.command} failed last"
    if run.failed:
        text += f", {run.failed} {run.unit if run.failed > 1 else run.unit.removesuffix('s')}"
    elif run.found:
        text += f", {run.found} {'problem' if run.found == 1 else 'problems'}"
    if run.names:
        text += f": {', '.join(run.names)}"
    if later is not None:
        text += f"; since then only {later.command} succeeded [{later.position}]"
    return Note(text, run.position, run.kind)


def _uncommitted(story: Story) -> Note | None:
    files = uncommitted_files(story)
    if not files:
        return None
    names = list(dict.fromkeys(posixpath.basename(f.path) for f in reversed(files)))
    more = f" and {len(names) - FILES_NAMED_MAX} more" if len(names) > FILES_NAMED_MAX else ""
    what = "changed after the last commit" if story.commits else "changed, no commit was seen in this session"
    return Note(f"{what}: {', '.join(names[:FILES_NAMED_MAX])}{more}", files[-1].position, "uncommitted")


def uncommitted_files(story: Story) -> list[FileWork]:
    """Changed files of the project that no commit of the session came after."""
    return [f for f in story.files if f.position and not f.outside and not f.committed]


def untested_files(story: Story) -> list[FileWork]:
    """Changed files of the project, prose apart, that no test run came after."""
    return [f for f in story.files if f.position and not (f.outside or f.tested or f.path.endswith(_PROSE))]


def _question(reply: str) -> str:
    """The question a reply ends with, "" where it ends otherwise."""
    last = reply.strip().split("\n")[-1].strip()
    return one_line(last, TODO_CHARS_MAX) if last.endswith("?") else ""
