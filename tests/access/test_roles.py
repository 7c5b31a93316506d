"""Which role may call what, through the assembled server: tools, prompts, resources, completions."""

from typing import Any

import anyio
import pytest
from access_kit import MILL, House, asked_by, principal
from mcp.shared.exceptions import MCPError

from session_mgmt_mcp.core.access import ADMIN_TOOLS, AccessError, Principal, Role
from session_mgmt_mcp.core.errors import InputError

ALLOWED = {
    Role.READER: {"search", "timeline", "status", "start", "audit"},
    Role.WRITER: {
        *("search", "timeline", "status", "start", "audit"),
        *("remember", "checkpoint", "end", "permissions"),
    },
    Role.ADMIN: set(ADMIN_TOOLS),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "search": {"query": "wheel"},
    "timeline": {"session": "mill-1"},
    "status": {},
    "start": {"project": MILL},
    "audit": {},
    "remember": {"text": "the wheel turns left", "project": MILL},
    "checkpoint": {"session": "mill-1"},
    "end": {"session": "mill-1"},
    "permissions": {"action": "list"},
    "forget": {"positions": [1]},
}


@pytest.mark.parametrize("projects", [None, (MILL,)], ids=["all", "some"])
@pytest.mark.parametrize("role", list(Role))
def test_a_role_is_shown_and_may_call_its_tools_and_no_others(
    house: House, role: Role, projects: tuple[str, ...] | None
) -> None:
    who = principal(role, projects)
    before = house.app.log.head().position
    assert listed(house, who, "tools") == ALLOWED[role]
    refused = set()
    for tool in ADMIN_TOOLS - ALLOWED[role]:
        text, failed = house.ask(who, tool, **ARGUMENTS[tool])
        assert failed and f"{tool} is not allowed" in text
        refused.add(tool)
    assert house.app.log.head().position == before, "a refused call wrote something"
    for tool in sorted(ALLOWED[role]):
        text, failed = house.ask(who, tool, **ARGUMENTS[tool])
        if tool == "forget" and projects is not None:
            assert failed and "all projects" in text
        else:
            assert not failed, text
    assert refused | ALLOWED[role] == ADMIN_TOOLS


def test_the_owner_at_the_machine_may_do_everything(house: House) -> None:
    assert listed(house, None, "tools") == ADMIN_TOOLS
    assert len(listed(house, None, "prompts")) == 6


def test_a_scope_leaves_one_tool(house: House) -> None:
    who = principal(Role.ADMIN, None, scopes=("search", "remember"))
    assert listed(house, who, "tools") == {"search", "remember"}
    assert house.ask(who, "search", query="wheel")[1] is False
    text, failed = house.ask(who, "timeline")
    assert failed and "scope timeline" in text


def test_prompts_follow_the_tools(house: House) -> None:
    assert listed(house, principal(Role.READER), "prompts") == {"start", "status", "resume", "handoff"}
    assert len(listed(house, principal(Role.WRITER), "prompts")) == 6
    only_search = principal(Role.READER, scopes=("search",))
    assert listed(house, only_search, "prompts") == set()
    for name in ("start", "checkpoint", "end", "status", "resume", "handoff"):
        with pytest.raises(MCPError, match="not allowed"):
            run(house, only_search, "get_prompt", name)


def test_resources_follow_the_tools(house: House) -> None:
    only_search = principal(Role.READER, scopes=("search",))
    assert (
        listed(house, only_search, "resources") == listed(house, only_search, "resource_templates") == set()
    )
    for uri in ("session://recent", "handoff://latest", "session://mill-1", "handoff://mill-1"):
        assert "flour" in str(run(house, principal(), "read_resource", uri))
        with pytest.raises(MCPError, match="not allowed"):
            run(house, only_search, "read_resource", uri)
    only_timeline = principal(Role.READER, scopes=("timeline",))
    assert listed(house, only_timeline, "resources") == {"recent"}
    assert listed(house, only_timeline, "resource_templates") == {"session"}


def test_completions_follow_the_tools(house: House) -> None:
    with asked_by(principal(Role.WRITER, scopes=("remember",))), pytest.raises(AccessError):
        house.services.complete(house.client.caller, "session", "")
    with asked_by(principal(Role.READER, scopes=("search",))):
        assert house.services.complete(house.client.caller, "session", "mill") == ["mill-1"]


def test_every_refusal_is_told_with_what_was_asked_for(house: House) -> None:
    told: list[tuple[str, str]] = []
    server = house.client.server
    server.on_denied = lambda error, what: told.append((error.reason, what))
    try:
        house.ask(principal(), "forget", positions=[1])
        house.ask(principal(Role.WRITER), "remember", text="x", project="/srv/bank")
        with pytest.raises(MCPError):
            run(house, principal(scopes=("search",)), "get_prompt", "status")
        house.ask(principal(), "search", query="wheel")
        house.ask(principal(), "timeline", session="nobody")
    finally:
        server.on_denied = None
    assert told == [("role", "forget"), ("project", "remember"), ("role", "status")]


def test_the_services_refuse_by_themselves_whatever_the_server_forgets(house: House) -> None:
    """A second line: every method that is asked without its tool raises."""
    methods = [name for name in dir(house.services) if not name.startswith("_") and name != "close"]
    arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "search": (("x",), {"limit": 1}),
        "timeline": ((), {"session": None, "around": 1, "cursor": None, "limit": 1}),
        "sessions": ((), {"project": None, "limit": 1}),
        "read_event": ((1,), {}),
        "audit": ((None,), {"limit": 1}),
        "start": ((None, None, None, 800), {}),
        "checkpoint": ((None, None, "", None), {}),
        "end": ((None, None, "", None), {}),
        "handoff": ((None, None), {}),
        "status": ((None,), {}),
        "remember": (("x", (), None, None, None), {}),
        "preview_forgetting": ((None,), {}),
        "forget": ((None, "", ""), {}),
        "grants": ((), {}),
        "grant": ((None, None, None), {}),
        "revoke": ((None, "", "", None), {}),
        "check": ((None, None), {}),
        "complete": ((None, "session", ""), {}),
    }
    assert sorted(methods) == sorted(arguments)
    nobody = Principal("mira", Role.READER, "id", frozenset({"metrics"}), None)
    with asked_by(nobody):
        for name, (given, named) in arguments.items():
            with pytest.raises(AccessError):
                getattr(house.services, name)(*given, **named)


def listed(house: House, who: Principal | None, what: str) -> set[str]:
    """Names in a list, as the principal gets it."""
    return {one.name for one in run(house, who, f"list_{what}")}


def run(house: House, who: Principal | None, method: str, *arguments: Any) -> Any:
    """Ask the server something other than a tool."""
    house.client.ask("status")  # the server is shared by all tests: from here on it asks our services
    with asked_by(who):
        return anyio.run(getattr(house.client.server, method), *arguments)


def test_an_access_error_is_no_wrong_request() -> None:
    assert not issubclass(AccessError, InputError)
