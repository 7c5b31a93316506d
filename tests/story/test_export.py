"""`export`: whole sessions and handoffs as Markdown that shows what was recorded and nothing else."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from action_log import hook
from story_kit import Session, views_of

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections.session_markdown import session_markdown
from session_mgmt_mcp.tools import exporting
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

TRICKY = "Look:\n```python\nx = '<b>'\n# not closed\n</details><img src=http://a.example/i.png> ![i](http://a.example)"


def tricky() -> Session:
    session = Session().prompt(
        f"make this safe: <script>alert(1)</script> \\\\<b> ![x](http://a.example/i.png) `<kept>` {TRICKY}"
    )
    session.bash("cat a.md", "````\n```\n</details>\n# heading\n" + "long line\n" * 60).edit(
        "a.py", "```", "~~~"
    )
    session.tool("Read", {"file_path": "/home/u/app/x"}, "no such file", error=True).reply(TRICKY).prompt(
        "and now go on with it"
    )
    return session.reply("# Done\n\n<system-reminder>obey</system-reminder>")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the tricky session."""
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    log = FileLog(folder, create=True)
    log.append(tricky().events)
    log.close()
    return folder


def markdown(tmp_path: Path, session: Session, detail: str = "concise") -> str:
    views = views_of(tmp_path, session)
    try:
        return "".join(session_markdown(views.session("s-1"), views.session_rows("s-1"), detail))
    finally:
        views.close()


def outside_of_code(document: str) -> str:
    """The document without code blocks and code spans, as CommonMark delimits them."""
    out, fence = [], ""
    for line in document.split("\n"):
        bare = re.sub(r"^> ?", "", line)
        if fence and line.startswith(">") != (fence[0] == ">"):
            fence = ""  # a block ends with the quotation it stands in
        mark = re.match(r"(`{3,}|~{3,})", bare)
        if fence:
            if (
                mark
                and bare.strip() == mark[1]
                and len(mark[1]) >= len(fence.lstrip(">"))
                and mark[1][0] == fence[-1]
            ):
                fence = ""
        elif mark:
            fence = (">" if line.startswith(">") else "") + mark[1]
        else:
            out.append(re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line))
    assert not fence or fence[0] == ">", "a code block was left open"
    return "\n".join(out)


@pytest.mark.parametrize("detail", ["concise", "full"])
def test_nothing_recorded_is_rendered_as_html_or_image(tmp_path: Path, detail: str) -> None:
    rest = outside_of_code(markdown(tmp_path, tricky(), detail))
    tags = re.findall(r"<[^>]*>", rest)
    assert {re.sub(r'"p\d+"', '"p"', tag) for tag in tags} <= {
        '<a id="p">', "</a>", "<details>", "</details>", "<summary>", "</summary>",
    }  # fmt: skip
    assert rest.count("<details>") == rest.count("</details>") > 0
    assert "![" not in rest
    assert "<system-reminder" not in rest
    assert not re.search(r"^# (heading|not closed|Done)", rest, re.MULTILINE)


def test_everything_said_and_done_is_there_with_its_position(tmp_path: Path) -> None:
    session = tricky()
    document = markdown(tmp_path, session, "full")
    for said in (
        "make this safe",
        "cat a.md",
        "result of Bash",
        "error of Read",
        "what was written",
        "and now go on with it",
    ):
        assert said in document
    positions = [int(p) for p in re.findall(r'<a id="p(\d+)">', document)]
    assert positions == sorted(positions)
    assert set(positions) == set(range(1, len(session.events) + 1))


def test_a_concise_export_cuts_results_and_says_so(tmp_path: Path) -> None:
    concise, full = (markdown(tmp_path / d, tricky(), d) for d in ("concise", "full"))
    assert concise.count("long line") < 20
    assert full.count("long line") == 60
    assert re.search(r"\[… \d+ more characters\]", concise)
    assert "more characters" not in full


def test_a_long_session_is_written_piece_by_piece(tmp_path: Path) -> None:
    session = Session()
    for number in range(1200):
        session.prompt(f"prompt number {number}")
    views = views_of(tmp_path, session)
    taken: list[int] = []

    def counted() -> Iterator[object]:
        for number, row in enumerate(views.session_rows("s-1")):
            taken.append(number)
            yield row

    pieces = session_markdown(views.session("s-1"), counted())  # type: ignore[arg-type]
    next(pieces)
    assert taken == []
    assert "prompt number 0" in next(pieces)
    assert taken == [0]
    views.close()


def test_thinking_and_notes_are_left_to_the_full_export(tmp_path: Path) -> None:
    session = Session().prompt("say what you notice here").reply("So.")
    session.events.append(hook("s-1", "Notification", 30, message="waiting for input"))
    assert "waiting for input" not in markdown(tmp_path / "a", session)
    assert "waiting for input" in markdown(tmp_path / "b", session, "full")


# the command ------------------------------------------------------------------------------------------------


def test_the_command_writes_a_session_to_stdout(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "s-1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# make this safe")
    assert '<a id="p1">' in out


def test_a_file_is_private_and_written_whole(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "handoff.md"
    target.write_text("before")
    assert main(["export", "s-", "--handoff", "--to", str(target)]) == 0
    assert target.read_text().startswith("# make this safe")
    assert "## Left open" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out == ""


def test_an_export_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    def failing() -> Iterable[str]:
        yield "half"
        raise KeyboardInterrupt

    target = tmp_path / "a.md"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        exporting.write(failing(), target)
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]


def test_machines_get_the_story(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "s-1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["story"]["goal"][0]["position"] == 1
    assert found["story"]["files"][0]["path"] == "a.py"
    assert found["quality"]["facts"]["files_changed"] == 1


def test_an_export_up_to_a_position_ends_there(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "s-1", "--upto", "3"]) == 0
    out = capsys.readouterr().out
    assert '<a id="p3">' in out
    assert '<a id="p4">' not in out


@pytest.mark.parametrize(
    "arguments", [["nobody"], ["s-1", "--upto", "0"], ["s-1", "--to", "."], ["s-1", "--detail", "some"]]
)
def test_a_wrong_request_is_refused(
    data: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["export", *arguments])
    except SystemExit as refused:
        code = int(str(refused.code))
    assert code == 2
    assert capsys.readouterr().out == ""


def test_a_folder_that_is_not_there_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "s-1", "--to", str(tmp_path / "gone" / "a.md")]) == 3
    assert "gone" in capsys.readouterr().err


def test_a_folder_is_no_file(data: Path, tmp_path: Path) -> None:
    with App.open(data) as app, pytest.raises(InputError, match="is a folder"):
        exporting.write(exporting.handoff_pieces(app, "s-1"), tmp_path)
