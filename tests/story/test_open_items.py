"""What a session left open is told, the most pressing first, and nothing that was done."""

from pathlib import Path

from action_log import hook
from story_kit import Session, todos

from session_mgmt_mcp.projections.story import Note, Story


def texts(notes: tuple[Note, ...]) -> list[str]:
    return [note.text for note in notes]


def kinds(story: Story) -> list[str]:
    return [note.kind for note in story.open_items]


def test_unfinished_todos_are_left_open_the_begun_ones_first(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers")
    session.tool("TodoWrite", todos(("one", "pending"), ("old", "pending")), "ok")
    session.tool(
        "TodoWrite", todos(("one", "completed"), ("two", "pending"), ("three", "in_progress")), "ok"
    ).reply("So.")
    assert texts(session.story(tmp_path).open_items) == ["begun: three", "to do: two"]


def test_tasks_are_followed_by_their_numbers(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers")
    for number, subject in ((1, "lexer"), (2, "grammar"), (3, "docs")):
        session.tool("TaskCreate", {"subject": subject}, f"Task #{number} created successfully: {subject}")
    session.tool("TaskUpdate", {"taskId": "1", "status": "completed"}, "ok")
    session.tool("TaskUpdate", {"taskId": "3", "status": "in_progress"}, "ok").reply("So.")
    assert texts(session.story(tmp_path).open_items) == ["begun: docs", "to do: grammar"]


def test_a_prompt_without_an_answer_is_the_first_thing_left_open(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers").reply("Done.").edit("a.py")
    session.prompt("and now the month names")
    assert kinds(session.story(tmp_path)) == ["unanswered", "uncommitted"]


def test_a_call_without_a_result_shows_where_a_killed_session_was(tmp_path: Path) -> None:
    session = Session().prompt("deploy it to the staging server").bash("make deploy\nsecond line", None)
    [asked, running] = session.story(tmp_path).open_items
    assert (asked.kind, running.kind) == ("unanswered", "running")
    assert running.text == "no result was recorded of Bash: make deploy"


def test_an_interrupted_turn_is_told_as_such(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers").reply("I begin.")
    session.user_turn("[Request interrupted by user]")
    story = session.story(tmp_path)
    assert kinds(story) == ["interrupted"]
    assert story.facts["interruptions"] == 1


def test_a_question_the_assistant_ends_with_is_open_until_it_is_answered(tmp_path: Path) -> None:
    session = Session().prompt("look into the failing deploy").reply("Found it.\n\nShall I mend it?")
    assert texts(session.story(tmp_path / "a").open_items) == ["the assistant asked: Shall I mend it?"]
    session.prompt("yes").reply("Mended.")
    assert session.story(tmp_path / "b").open_items == ()


def test_a_compaction_is_counted_once_whoever_reports_it(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers").reply("Begun.")
    session.events += [
        hook("s-1", "PreCompact", 12, trigger="auto"),
        hook("s-1", "PostCompact", 13, compact_summary="All."),
    ]
    session.at = 20
    session.prompt("This session is being continued from a previous conversation. All.").reply("On with it.")
    assert session.story(tmp_path).compactions == 1
