"""A session's story for people: Markdown with positions to go back to."""

from session_mgmt_mcp.projections.phrases import (
    KINDS,
    at,
    changed_files,
    count,
    failure_text,
    last_runs,
    quality_lines,
    run_outcome,
    state,
)
from session_mgmt_mcp.projections.plain_text import code, markdown, one_line
from session_mgmt_mcp.projections.quality import Quality
from session_mgmt_mcp.projections.story import Note, Story
from session_mgmt_mcp.projections.times import span

FILES_MAX = 40
LISTED_MAX = 30
LOOK_MAX = 8


def handoff_markdown(story: Story, quality: Quality | None = None) -> str:
    """The whole story. `[1042]` is a position: `timeline(around=1042)`, `session-mgmt-mcp show --around 1042`."""
    sections = [
        ("Goal", _notes(story.goal)),
        ("Asked for later", _notes(story.asked)),
        ("Left open", _notes(story.open_items)),
        ("Decisions", [_bullet(f"{n.kind}: {n.text}", n.position) for n in story.decisions]),
        ("What the user corrected", _notes(story.corrections)),
        ("Commits", [f"- {code(c.hash)} {markdown(c.subject)} {at(c.position)}" if c.hash else _bullet(c.subject, c.position)
                     for c in story.commits[-LISTED_MAX:]]),
        ("Tests and checks", _runs(story)),
        ("Failures", [_bullet(failure_text(f), f.position, f.fixed_at) for f in story.failures[-LISTED_MAX:]]),
        ("Files changed", _files(story)),
        ("Commands", _commands(story)),
        ("Notes of checkpoints", _notes(story.notes)),
        ("How it stands", [f"- {line}" for line in quality_lines(quality)] if quality else []),
        ("Where to look", _where_to_look(story)),
        ("Last reply", [f"> {markdown(story.last_reply.text)} {at(story.last_reply.position)}"] if story.last_reply else []),
    ]  # fmt: skip
    parts = [_head(story), *(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections if lines)]
    return "\n\n".join(parts) + "\n"


def _head(story: Story) -> str:
    title = story.title or (story.goal[0].text if story.goal else story.session)
    facts = [
        f"session {code(one_line(story.session, 120))}",
        one_line(story.assistant, 60),
        code(one_line(story.project, 200)) if story.project else "",
        f"branch {code(one_line(story.branch, 100))}" if story.branch else "",
        span(story.started_at, story.ended_at),
        state(story),
        f"{count(story.rows, 'action')}, positions {story.first_position} to {story.last_position}",
        count(story.compactions, "compaction") if story.compactions else "",
    ]
    return (
        f"# {markdown(one_line(title, 120))}\n\n{' · '.join(f for f in facts if f)}\n\n"
        "Composed from the log alone; `[n]` is a position in it: `session-mgmt-mcp show --around n`."
    )


def _bullet(text: str, *positions: int) -> str:
    return f"- {markdown(text)} {at(*positions)}".rstrip()


def _notes(notes: tuple[Note, ...]) -> list[str]:
    return [_bullet(note.text, note.position) for note in notes]


def _runs(story: Story) -> list[str]:
    lines = []
    for run, times, failed in last_runs(story):
        history = f", last of {count(times, 'run')}" if times > 1 else ""
        history += f", {failed} failed" if failed and times > 1 else ""
        names = f": {markdown(', '.join(run.names))}" if run.names else ""
        lines.append(
            f"- {KINDS[run.kind]} {code(run.command)}: {run_outcome(run)}{history}{names} {at(run.position)}"
        )
    return lines[:LISTED_MAX]


def _files(story: Story) -> list[str]:
    changed = changed_files(story)
    lines = []
    for file in changed[:FILES_MAX]:
        what = [count(file.edits, "edit")] if file.edits else []
        what += [count(file.writes, "write")] if file.writes else []
        lines.append(f"- {code(file.path)}: {', '.join(what)} {at(file.position)}")
    if len(changed) > FILES_MAX:
        lines.append(f"- and {len(changed) - FILES_MAX} more")
    outside = [f for f in story.files if f.position and f.outside]
    if outside:
        lines.append(f"- outside of the project: {', '.join(code(f.path) for f in outside[:LOOK_MAX])}")
    return lines


def _commands(story: Story) -> list[str]:
    lines = []
    for use in story.commands[-LISTED_MAX:]:
        times = f", {use.times} times" if use.times > 1 else ""
        failed = f", {use.failed} failed" if use.failed else ""
        lines.append(f"- {code(use.command)}{times}{failed} {at(use.position)}")
    return lines


def _where_to_look(story: Story) -> list[str]:
    """The files most worked on, changed or only read."""
    worked = sorted(
        (f for f in story.files if not f.outside),
        key=lambda f: (-(3 * (f.edits + f.writes) + f.reads), f.path),
    )
    lines = []
    for file in worked[:LOOK_MAX]:
        changes = file.edits + file.writes
        what = [count(changes, "change")] if changes else []
        what += [f"read {count(file.reads, 'time')}"] if file.reads else []
        lines.append(f"- {code(file.path)}: {', '.join(what)} {at(file.position)}".rstrip())
    return lines
