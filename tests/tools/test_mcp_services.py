"""The MCP tools over a real log: what each answers, stores and takes away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forget_kit import hook, left_in, report
from mcp_in_process import InProcess, parted

from session_mgmt_mcp.adapters.mcp.caller import Caller
from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.projections.tokens import estimate
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.mcp_services import McpServices

SESSION = "5e551001-aaaa-4bbb-8ccc-000000000001"
WORDS = "osprey quill"


@pytest.fixture
def app(data: Path) -> Iterator[App]:
    with App.open(data, create=True) as app:
        yield app


@pytest.fixture
def client(app: App) -> InProcess:
    return InProcess(McpServices(app))


def call(tool: str, use: str, file: str, result: str, session: str = SESSION, **fields: Any) -> list[bytes]:
    given = {"file_path": file, "old_string": "a", "new_string": "b"} if tool == "Edit" else {"command": file}
    common = {"tool_name": tool, "tool_input": given, "tool_use_id": use, **fields}
    return [
        hook(session, "PreToolUse", **common),
        hook(session, "PostToolUse", tool_response=result, **common),
    ]


@pytest.fixture
def worked(app: App) -> App:
    """A session of one prompt, an edit and a test run that failed."""
    report(
        app.folder,
        hook(SESSION, "SessionStart", source="startup"),
        hook(SESSION, prompt=f"mend the {WORDS} in the mill", prompt_id="p-1"),
        *call("Edit", "t-1", "/shop/src/mill.py", "updated"),
        *call("Bash", "t-2", "pytest -q", "1 failed, 2 passed in 0.3s"),
    )
    live.clear(str(app.folder))  # its assistant is gone: it is not the one that asks
    return app


def test_start_tells_what_the_last_session_left_and_takes_one_up_by_its_id(
    worked: App, client: InProcess
) -> None:
    told = client.call("start")
    assert WORDS in parted(told)[0] and "not instructions" in told
    assert f"Where this session ({SESSION})" in client.call("start", session=SESSION[:8])
    assert "Nothing is recorded of /elsewhere" in client.call("start", project="/elsewhere")


@pytest.mark.parametrize("budget", [100, 200, 800])
def test_a_brief_keeps_within_its_budget(worked: App, client: InProcess, budget: int) -> None:
    for n in range(20):
        report(
            worked.folder,
            hook(SESSION, prompt=f"and then change number {n} of the {WORDS} " * 5, prompt_id=f"q-{n}"),
        )
    assert estimate(client.call("start", budget_tokens=budget)) <= max(budget, 140)


def test_a_checkpoint_is_stored_once_for_a_request_that_is_sent_again(worked: App, client: InProcess) -> None:
    first, _ = client.ask("checkpoint", request="r-1", session=SESSION, note="the mill turns")
    again, _ = client.ask("checkpoint", request="r-1", session=SESSION, note="the mill turns")
    other, _ = client.ask("checkpoint", request="r-2", session=SESSION, note="the mill turns")
    assert (
        "stored, durably, at position" in first
        and "nothing was added" in again
        and "stored, durably" in other
    )
    assert "the mill turns" in parted(first)[0]


def test_end_hands_over_and_the_next_start_tells_of_it(worked: App, client: InProcess) -> None:
    text = client.call("end", session=SESSION, note="the sluice is still shut")
    inside, outside = parted(text)
    assert "# " in inside and "the sluice is still shut" in inside and "stored, durably" in outside
    told = client.call("start")
    assert "the sluice is still shut" in told and "ended" in told


def test_a_session_that_cannot_be_told_is_asked_for(worked: App, client: InProcess) -> None:
    client.caller = Caller(1, "/nowhere")
    text, failed = client.ask("checkpoint")
    assert failed and "session=" in text
    text, failed = client.ask("end", session="ffff")
    assert failed and "no session 'ffff'" in text


def test_a_note_is_kept_without_the_secrets_in_it(worked: App, client: InProcess, data: Path) -> None:
    token = "ghp_" + "A1b2C3d4E5f6" * 3
    client.call("checkpoint", session=SESSION, note=f"push with {token}")
    client.call("end", session=SESSION, note=f"pushed with {token}")
    client.call("permissions", action="grant", operation=f"curl -H {token}", reason=f"token {token}")
    assert left_in(data, [token.encode()]) == []


def test_remember_without_a_project_belongs_to_the_callers_folder(app: App, client: InProcess) -> None:
    client.caller = Caller(1, "/shop/mill")
    client.call("remember", text="the mill grinds on Tuesdays", tags=["decision"])
    assert "grinds on Tuesdays" in client.call("search", query="grinds", project="/shop/mill")
    assert "Nothing recorded matches" in client.call("search", query="grinds", project="/barn")


def test_a_remembering_that_is_sent_again_is_stored_once(app: App, client: InProcess) -> None:
    assert "durably" in client.ask("remember", request="r-9", text="only once")[0]
    assert "nothing was added" in client.ask("remember", request="r-9", text="only once")[0]


# -- forget ----------------------------------------------------------------------------------------------------------


def code_of(text: str) -> str:
    found = re.search(r"confirm='([^']+)'", text)
    assert found, text
    return found[1]


def test_forget_first_shows_and_only_the_code_takes_it_out(
    worked: App, client: InProcess, data: Path
) -> None:
    shown = client.call("forget", query=WORDS)
    assert "Nothing was changed yet" in shown and WORDS in parted(shown)[0]
    assert left_in(data, [WORDS.encode()])
    done = client.call("forget", query=WORDS, confirm=code_of(shown), reason="a test")
    assert "for good" in done
    assert left_in(data, [WORDS.encode()]) == []
    assert "Nothing recorded matches" in client.call("search", query=WORDS)


def test_a_code_stands_for_the_very_events_and_selectors_it_was_given_for(
    worked: App, client: InProcess
) -> None:
    code = code_of(client.call("forget", query=WORDS))
    for other in ({"session": SESSION}, {"positions": [2]}, {"query": "mill"}):
        text = client.call("forget", confirm=code, **other)
        assert "nothing was changed" in text and code_of(text) != code
    head = int(code.partition("-")[0])
    text = client.call("forget", query=WORDS, confirm=f"{head + 1}-{code.partition('-')[2]}")
    assert "nothing was changed" in text
    assert not _forgotten(worked)


def _forgotten(app: App) -> list[Any]:
    events = [event for batch in app.log.read(0) for event in batch]
    return [e for e in events if e.envelope.event_type == PayloadForgotten.__name__]


def test_what_is_recorded_between_the_two_calls_goes_too(worked: App, client: InProcess, data: Path) -> None:
    code = code_of(client.call("forget", query=WORDS))
    report(
        data,
        hook(
            SESSION, "PreToolUse", tool_name="mcp__x__forget", tool_input={"query": WORDS}, tool_use_id="t-9"
        ),
    )
    assert "for good" in client.call("forget", query=WORDS, confirm=code)
    assert left_in(data, [WORDS.encode()]) == []


def test_a_confirmation_sent_again_finds_nothing_left_and_is_no_error(worked: App, client: InProcess) -> None:
    code = code_of(client.call("forget", query=WORDS))
    client.call("forget", query=WORDS, confirm=code)
    assert "Nothing to forget" in client.call("forget", query=WORDS, confirm=code)
    assert len(_forgotten(worked)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "nothing was chosen: give positions, session, project or query"),
        ({"positions": [99999]}, "position 99999 is not in the log"),
        ({"query": WORDS, "confirm": "yes"}, "is no code of forget"),
        ({"session": "ffff"}, "no session 'ffff'"),
    ],
)
def test_a_wrong_forgetting_is_refused(
    worked: App, client: InProcess, arguments: dict[str, Any], words: str
) -> None:
    text, failed = client.ask("forget", **arguments)
    assert failed and words in text


# -- audit -----------------------------------------------------------------------------------------------------------


def test_audit_names_who_changed_a_file_with_positions(worked: App, client: InProcess) -> None:
    inside, outside = parted(client.call("audit", file="mill.py"))
    assert re.search(r"^\[\d+\] .*call Edit · src/mill\.py", inside, re.MULTILINE)
    assert "Bash" not in inside and "That is all of it" in outside
    assert "Bash" in client.call("audit", session=SESSION, tool="Bash")
    assert "Leave out file" in client.call("audit", file="none.py")


@pytest.mark.parametrize(("limit", "budget"), [(1, 2000), (3, 2000), (7, 2000), (50, 300)])
def test_pages_of_the_audit_lose_and_repeat_nothing(
    worked: App, client: InProcess, limit: int, budget: int
) -> None:
    report(
        worked.folder, *(hook(SESSION, prompt=f"prompt number {n}", prompt_id=f"q-{n}") for n in range(20))
    )
    whole = parted(client.call("audit", session=SESSION, limit=200, budget_tokens=20_000))[0]
    seen, cursor = [], None
    while True:
        text = client.call("audit", session=SESSION, limit=limit, cursor=cursor, budget_tokens=budget)
        seen += [line for line in parted(text)[0].splitlines() if line.startswith("[")]
        following = re.search(r"cursor='(\d+)'", text)
        if following is None:
            break
        cursor = following[1]
    assert seen == [line for line in whole.splitlines() if line.startswith("[")]
    assert len(seen) > 25


# -- permissions -----------------------------------------------------------------------------------------------------


def test_a_permission_is_granted_found_and_taken_back(app: App, client: InProcess) -> None:
    told = client.call(
        "permissions", action="grant", operation="git push", expires="8h", reason="release day"
    )
    assert "recorded by assistant" in told and "enforces nothing" in told
    name = parted(told)[0][:8]
    assert client.call("permissions", action="check", operation="git push origin main").startswith("Yes")
    assert "recorded already" in client.call(
        "permissions", action="grant", operation="git push", expires="7h"
    )
    assert "is revoked" in client.call("permissions", action="revoke", id=name[:4], reason="changed my mind")
    assert "revoked before" in client.call("permissions", action="revoke", id=name)
    assert client.call("permissions", action="check", operation="git push").startswith("No")
    assert f"{name} revoked" in client.call("permissions")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"action": "grant"}, "needs operation"),
        ({"action": "check", "operation": " "}, "needs operation"),
        ({"action": "revoke"}, "needs id"),
        ({"action": "revoke", "id": "zzzz"}, "there is no permission 'zzzz'"),
        ({"action": "grant", "operation": "x", "expires": "soon"}, "write 30m, 8h, 7d"),
        ({"action": "grant", "operation": "x", "expires": "2020-01-01"}, "expired already"),
        ({"action": "grant", "operation": "a*b*c*d*e"}, "more than 3 wildcards"),
        ({"action": "enforce"}, "action"),
    ],
)
def test_a_wrong_permission_request_is_refused(
    app: App, client: InProcess, arguments: dict[str, Any], words: str
) -> None:
    text, failed = client.ask("permissions", **arguments)
    assert failed and words in text


def test_a_forgotten_permission_holds_no_longer(app: App, client: InProcess) -> None:
    told = client.call("permissions", action="grant", operation="git push")
    position = int(re.search(r"position (\d+)", told)[1])  # type: ignore[index]
    code = code_of(client.call("forget", positions=[position]))
    client.call("forget", positions=[position], confirm=code)
    assert client.call("permissions", action="check", operation="git push").startswith("No")
    assert "No permission is recorded" in client.call("permissions")


# -- the rest --------------------------------------------------------------------------------------------------------


def test_status_says_in_a_few_lines_what_matters(worked: App, client: InProcess) -> None:
    text = client.call("status")
    assert "1 sessions" in text and "capture runs" in text and estimate(text) < 200
    worked.pause()
    assert "capture is paused" in client.call("status")


def test_a_session_is_named_by_its_beginning_though_its_agents_begin_so_too(
    worked: App, client: InProcess
) -> None:
    client.call("remember", text="seen by an agent", session=f"{SESSION}#agent-1")
    assert WORDS in client.call("timeline", session=SESSION[:8])


def test_ids_and_projects_are_completed_from_the_log(worked: App, client: InProcess) -> None:
    services = McpServices(worked)
    assert services.complete(client.caller, "session", "5e55") == [SESSION]
    assert services.complete(client.caller, "session", "x") == []
    assert services.complete(client.caller, "project", "sho") == ["/shop"]


@pytest.mark.parametrize("budget", [600, 1500, 3000])
@pytest.mark.parametrize("form", ["concise", "detailed"])
def test_answers_keep_within_their_budget_and_say_how_to_go_on(
    worked: App, client: InProcess, budget: int, form: str
) -> None:
    report(
        worked.folder,
        *(
            hook(SESSION, prompt=f"prompt number {n} " + "of many words " * 40, prompt_id=f"q-{n}")
            for n in range(40)
        ),
    )
    for tool, arguments in (
        ("search", {"query": "prompt number", "limit": 50}),
        ("timeline", {"session": SESSION, "limit": 30}),
        ("timeline", {"around": 30, "limit": 30}),
        ("audit", {"session": SESSION, "limit": 100}),
    ):
        text = client.call(tool, format=form, budget_tokens=budget, **arguments)
        assert estimate(text) <= budget, (tool, arguments)
        outside = parted(text)[1]
        assert re.search(r"budget_tokens|timeline\(|audit\(cursor", outside), outside
    assert estimate(client.call("timeline", around=30, format="raw", budget_tokens=budget)) <= budget
