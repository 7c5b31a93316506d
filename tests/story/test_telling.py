"""A session's story holds what was asked, done, decided, what failed and what is left, each once and with its place."""

from pathlib import Path

import pytest
from action_log import hook, hook_prompt, record
from story_kit import MINUTE, REFUSED, Session, views_of

from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.events import SessionClosed
from session_mgmt_mcp.projections.story import Note, Story
from session_mgmt_mcp.projections.telling import session_story

COMMITTED = "[main 3f91520] Mend the parser\n 1 file changed"


def texts(notes: tuple[Note, ...]) -> list[str]:
    return [note.text for note in notes]


def kinds(story: Story) -> list[str]:
    return [note.kind for note in story.open_items]


def test_no_rows_make_an_empty_story() -> None:
    story = session_story([])
    assert story.is_empty
    assert story.session == ""


def test_the_goal_is_the_first_prompt_that_asks_for_something(tmp_path: Path) -> None:
    session = (
        Session()
        .prompt("hi")
        .reply("Hello.")
        .prompt("make the date parser accept week numbers")
        .reply("Done.")
    )
    story = session.story(tmp_path)
    assert texts(story.goal) == ["make the date parser accept week numbers"]
    assert story.goal[0].position == 3


def test_an_approval_is_neither_goal_nor_a_new_request(tmp_path: Path) -> None:
    session = (
        Session().prompt("make the date parser accept week numbers").reply("So?").prompt("yes, let's do that")
    )
    session.reply("Done.").prompt("now write documentation about calendars and leap seconds").reply("Done.")
    story = session.story(tmp_path)
    assert texts(story.asked) == ["now write documentation about calendars and leap seconds"]
    assert story.last_prompt is not None and story.last_prompt.position == 5


def test_a_command_of_the_users_comes_before_the_prompts(tmp_path: Path) -> None:
    command = "<command-name>/review</command-name><command-args>158</command-args>"
    session = Session().user_turn("<command-name>/clear</command-name>").user_turn(command)
    story = session.prompt("bring the branch up to date with main").reply("Done.").story(tmp_path)
    assert texts(story.goal) == ["/review 158", "bring the branch up to date with main"]


def test_files_are_counted_once_and_relative_to_the_project(tmp_path: Path) -> None:
    session = Session().prompt("rename the settings module everywhere")
    session.edit("src/a.py").edit("src/a.py", "b", "c").edit("/etc/hosts")
    session.tool("Write", {"file_path": "/home/u/app/new.py", "content": "x"}, "created")
    session.tool("Read", {"file_path": "/home/u/app/old.py"}, "text")
    session.tool(
        "Edit",
        {"file_path": "/home/u/app/b.py", "old_string": "a", "new_string": "b"},
        "not found",
        error=True,
    )
    story = session.story(tmp_path)
    found = {f.path: (f.edits, f.writes, f.reads, f.outside) for f in story.files}
    assert found == {
        "src/a.py": (2, 0, 0, False),
        "/etc/hosts": (1, 0, 0, True),
        "new.py": (0, 1, 0, False),
        "old.py": (0, 0, 1, False),
    }
    assert story.facts["files_changed"] == 2
    assert story.facts["edits"] == 3


def test_a_fact_that_hook_and_transcript_report_is_told_once(tmp_path: Path) -> None:
    session = (
        Session("s-1").prompt("run all of the tests please").bash("pytest", "3 passed in 0.1s").reply("Fine.")
    )
    use = next(e for e in session.events if b"tool_use_id" in (e.payload or b""))
    tool_use_id = (use.payload or b"").split(b'"tool_use_id": "')[1].split(b'"')[0].decode()
    session.events += [
        hook_prompt("s-1", "run all of the tests please", 1),
        hook("s-1", "PostToolUse", 2, tool_name="Bash", tool_use_id=tool_use_id, tool_input={"command": "pytest"},
             tool_response={"stdout": "3 passed in 0.1s", "stderr": ""}),
    ]  # fmt: skip
    story = session.story(tmp_path)
    assert [run.kind for run in story.runs] == ["test"]
    assert story.facts["tool_calls"] == 1
    assert len(story.goal) == 1
    assert not story.asked


def test_a_session_told_by_hooks_alone_has_its_story(tmp_path: Path) -> None:
    session = Session()
    session.events = [
        hook("s-1", "SessionStart", 0, source="startup"),
        hook_prompt("s-1", "make the date parser accept week numbers", 1),
        hook("s-1", "PostToolUse", 2, tool_name="Bash", tool_use_id="t-1", tool_input={"command": "pytest -q"},
             tool_response={"stdout": "3 passed in 0.1s", "stderr": ""}),
        hook("s-1", "Stop", 3, last_assistant_message="It accepts them now."),
        hook("s-1", "SessionEnd", 4, reason="exit"),
    ]  # fmt: skip
    story = session.story(tmp_path)
    assert texts(story.goal) == ["make the date parser accept week numbers"]
    assert [(run.runner, run.ok, run.passed) for run in story.runs] == [("pytest", True, 3)]
    assert story.last_reply is not None and story.last_reply.text == "It accepts them now."
    assert story.end == "exit"
    assert not story.open_items


def test_a_session_that_is_taken_up_again_is_open_again(tmp_path: Path) -> None:
    session = Session().prompt("make the parser accept week numbers").reply("Done.")
    session.own(EventType.SESSION_CLOSED, SessionClosed("s-1", "", "orphaned"))
    assert session.story(tmp_path / "a").end == "orphaned"
    session.prompt("and month names in other languages too")
    assert session.story(tmp_path / "b").end == ""


# commits ----------------------------------------------------------------------------------------------------


def test_commits_have_hash_and_subject(tmp_path: Path) -> None:
    session = Session().prompt("mend the parser and commit it").edit("a.py")
    story = session.bash("git add -A && git commit -m 'Mend the parser'", COMMITTED).story(tmp_path)
    assert [(c.hash, c.subject, c.branch) for c in story.commits] == [("3f91520", "Mend the parser", "main")]
    assert kinds(story) == ["unanswered"]
    assert story.facts["files_uncommitted"] == 0


def test_a_commit_that_says_nothing_of_itself_is_one_all_the_same(tmp_path: Path) -> None:
    session = Session().prompt("mend the parser and commit it").edit("a.py")
    story = session.bash("git add -A && git commit -qm 'Mend the parser'").reply("Done.").story(tmp_path)
    assert [(c.hash, c.subject) for c in story.commits] == [("", "Mend the parser")]
    assert story.open_items == ()


def test_an_amended_commit_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    session = (
        Session().prompt("mend the parser and commit it").bash("git commit -am 'Mend the parser'", COMMITTED)
    )
    session.bash("git commit --amend --no-edit", "[main aaaaaaa] Mend the parser")
    assert [c.hash for c in session.story(tmp_path).commits] == ["aaaaaaa"]


def test_a_commit_in_a_repository_for_trying_things_is_none_of_the_projects(tmp_path: Path) -> None:
    session = Session().prompt("find out how worktrees behave")
    session.bash("cd /tmp && git init x && cd x && git commit -m init --allow-empty", "[main 3f91520] init")
    assert session.story(tmp_path).commits == ()


def test_a_commit_that_failed_is_none(tmp_path: Path) -> None:
    session = (
        Session()
        .prompt("commit it all")
        .bash("git commit -m x", "Exit code 1\nnothing to commit", error=True)
    )
    assert session.story(tmp_path).commits == ()


def test_files_changed_after_the_last_commit_are_left_open(tmp_path: Path) -> None:
    session = Session().prompt("mend the parser and commit it").edit("a.py")
    session.bash("git commit -am 'Mend the parser'", COMMITTED).edit("src/b.py").reply("Done.")
    story = session.story(tmp_path)
    assert [(n.kind, n.text) for n in story.open_items] == [
        ("uncommitted", "changed after the last commit: b.py")
    ]
    assert story.facts["files_uncommitted"] == 1


def test_minutes_since_the_last_commit_end_with_the_session(tmp_path: Path) -> None:
    session = Session().prompt("mend the parser and commit it").bash("git commit -am 'Mend'", COMMITTED)
    story = session.later(90 * MINUTE).reply("Done.").story(tmp_path)
    assert story.facts["minutes_since_commit"] == 90
    assert (
        "minutes_since_commit" not in Session().prompt("only talk about parsers").story(tmp_path / "b").facts
    )


# failures ---------------------------------------------------------------------------------------------------

FAILED = "FAILED tests/test_a.py::test_b - assert\n1 failed, 2 passed in 0.1s"


def test_a_failure_names_what_was_changed_until_it_succeeded(tmp_path: Path) -> None:
    session = (
        Session()
        .prompt("make the tests of the parser pass")
        .edit("early.py")
        .bash("pytest tests/test_a.py", FAILED)
    )
    session.edit("src/parser.py").bash("pytest tests/test_a.py", FAILED).edit("src/dates.py")
    session.bash("pytest tests/test_a.py", "3 passed in 0.1s").reply("Done.")
    [failure] = session.story(tmp_path).failures
    assert failure.times == 2
    assert failure.gist == "tests/test_a.py::test_b"
    assert failure.fixed_by == ("parser.py", "dates.py")
    assert failure.position < failure.fixed_at


def test_a_narrower_run_does_not_answer_for_the_whole(tmp_path: Path) -> None:
    session = Session().prompt("make the tests of the parser pass").bash("pytest", FAILED).edit("a.py")
    session.bash("pytest tests/test_a.py", "1 passed in 0.1s").reply("Done.")
    story = session.story(tmp_path)
    assert story.failures[0].fixed_at == 0
    [item] = [n for n in story.open_items if n.kind == "test"]
    assert "pytest failed last, 1 test: tests/test_a.py::test_b" in item.text
    assert "since then only pytest tests/test_a.py succeeded" in item.text


def test_a_whole_run_answers_for_a_narrower_one(tmp_path: Path) -> None:
    session = Session().prompt("make the tests of the parser pass").bash("pytest tests/test_a.py", FAILED)
    session.edit("a.py").bash("pytest", "9 passed in 0.1s").reply("Done.")
    assert "test" not in kinds(session.story(tmp_path))


def test_the_projects_task_for_all_tests_answers_for_its_runner_not_for_other_tasks(tmp_path: Path) -> None:
    session = (
        Session()
        .prompt("make the tests of the parser pass")
        .bash("npx jest a.test.js", "Tests: 1 failed, 1 total")
    )
    session.bash("npm run test:e2e", "boom", error=True).bash("npm test", "Tests: 9 passed, 9 total").reply(
        "Done."
    )
    failing = [n.text for n in session.story(tmp_path).open_items if n.kind == "test"]
    assert len(failing) == 1
    assert failing[0].startswith("npm run test:e2e failed last")


def test_what_could_not_run_after_a_failure_is_not_told(tmp_path: Path) -> None:
    session = Session().prompt("check all of it before the release")
    session.bash("ruff check . && pytest | tail -3", "Found 3 errors.", error=True).reply("Three errors.")
    assert [run.kind for run in session.story(tmp_path).runs] == ["lint"]


def test_calls_the_user_refused_are_no_failures_and_what_was_said_is_kept(tmp_path: Path) -> None:
    said = (
        f"{REFUSED} (eg.). To tell you how to proceed, the user said:\nuse the other port\n\nNote: the rest"
    )
    session = Session().prompt("start the server on its port").bash("npm run serve", said, error=True)
    session.tool(
        "Edit", {"file_path": "/home/u/app/a.py", "old_string": "a", "new_string": "b"}, REFUSED, error=True
    )
    story = session.reply("Fine.").story(tmp_path)
    assert texts(story.corrections) == ["use the other port"]
    assert story.facts["refused"] == 2
    assert story.facts["tool_failures"] == 0
    assert story.files == ()


def test_an_edit_that_is_taken_back_is_counted(tmp_path: Path) -> None:
    session = Session().prompt("try the other way of parsing").edit("a.py", "x = 1\ny = 1", "x = 2")
    story = session.edit("a.py", "x = 2", "x = 1\ny = 1").bash("git checkout -- b.py").story(tmp_path)
    assert story.facts["undone_edits"] == 1
    assert story.facts["reverts"] == 1


def test_different_edits_of_one_file_are_not_taken_back(tmp_path: Path) -> None:
    session = (
        Session()
        .prompt("try the other way of parsing")
        .edit("a.py", "x = 1", "x = 2")
        .edit("a.py", "x = 2", "x = 3")
    )
    assert session.edit("b.py", "x = 2", "x = 1").story(tmp_path).facts["undone_edits"] == 0


# decisions --------------------------------------------------------------------------------------------------


def test_reflections_plans_and_answers_are_decisions(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers")
    session.remember("dates in tests are always UTC", "decision", "tests").remember("just a thought")
    plan = {"plan": "## Parse weeks\n\nFirst the lexer."}
    session.tool("ExitPlanMode", plan, "User has approved your plan. You can now start coding.")
    session.tool("ExitPlanMode", {"plan": "## Refused"}, REFUSED, error=True)
    answers = (
        'User has answered your questions: "Which week?"="ISO", "Cache "it"?"="no". You can now continue'
    )
    session.tool("AskUserQuestion", {"questions": []}, answers)
    story = session.story(tmp_path)
    assert [(n.kind, n.text) for n in story.decisions] == [
        ("decision", "dates in tests are always UTC #tests"),
        ("reflection", "just a thought"),
        ("plan", "Parse weeks"),
        ("answer", "Which week? → ISO"),
        ("answer", 'Cache "it"? → no'),
    ]


# places -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("publish", [False, True])
def test_a_story_up_to_a_position_knows_nothing_later(tmp_path: Path, publish: bool) -> None:
    session = Session().prompt("make the date parser accept week numbers").edit("a.py").reply("Done.")
    end = len(session.events)
    session.prompt("now write documentation about calendars").edit("b.py").reply("Done too.")
    views = views_of(tmp_path, session, publish=publish)
    story = views.story("s-1", upto=end)
    assert [f.path for f in story.files] == ["a.py"]
    assert story.asked == ()
    assert story.last_position == end
    assert [f.path for f in views.story("s-1").files] == ["a.py", "b.py"]
    views.close()


def test_a_story_up_to_a_checkpoint_takes_in_the_transcript_that_was_read_later(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers").edit("a.py").reply("Done.")
    first = hook_prompt("s-1", "make the date parser accept week numbers", 1)
    stop = hook("s-1", "Stop", session.at + 1, last_assistant_message="Done.")
    session.events = [first, stop, *session.events]
    session.prompt("now write documentation about calendars").reply("Yes.")
    views = views_of(tmp_path, session)
    story = views.story("s-1", upto=2)
    assert [f.path for f in story.files] == ["a.py"]
    assert texts(story.goal) == ["make the date parser accept week numbers"]
    assert story.asked == ()
    views.close()


def test_rows_are_read_in_pages_in_the_order_they_happened(tmp_path: Path) -> None:
    session = Session()
    for number in range(700):
        session.prompt(f"prompt number {number}")
    views = views_of(tmp_path, session, publish=True)
    rows = list(views.session_rows("s-1"))
    assert [row.text for row in rows] == [f"prompt number {number}" for number in range(700)]
    views.close()


def test_what_a_subagent_did_stands_where_it_happened_though_its_transcript_is_read_later(
    tmp_path: Path,
) -> None:
    session = Session().prompt("let an agent rename the settings module, then commit")
    session.later(60).bash("git commit -am 'Rename'", "[main 3f91520] Rename").reply("Done.")
    block = {
        "type": "tool_use",
        "id": "t-x",
        "name": "Edit",
        "input": {"file_path": "/home/u/app/a.py", "new_string": "x"},
    }
    result = {"type": "tool_result", "tool_use_id": "t-x", "content": "updated"}
    agent = {"isSidechain": True, "agentId": "7f"}
    session.events += [
        record(
            "s-1",
            "x-1",
            20,
            type="assistant",
            message={"id": "m", "role": "assistant", "content": [block]},
            **agent,
        ),
        record("s-1", "x-2", 21, type="user", message={"role": "user", "content": [result]}, **agent),
    ]
    story = session.story(tmp_path)
    assert [(f.path, f.committed) for f in story.files] == [("a.py", True)]
    assert story.last_reply is not None and story.last_reply.text == "Done."
    assert story.open_items == ()
