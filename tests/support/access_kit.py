"""A data folder with two projects, seen through the assembled MCP server as different principals see it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcp_in_process import InProcess

from session_mgmt_mcp.core.access import PRINCIPAL, Principal, Role, tools_of
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.guarded_services import GuardedServices
from session_mgmt_mcp.tools.mcp_services import McpServices

MILL, BANK = "/srv/mill", "/srv/bank"  # what our principal sees, and what it must not
WORD = "zanzibar"  # said in the other project alone
NOW = 1_790_000_000_000_000


def principal(
    role: Role = Role.READER,
    projects: tuple[str, ...] | None = (MILL,),
    *,
    name: str = "mira",
    scopes: tuple[str, ...] = (),
) -> Principal:
    return Principal(name, role, f"id-{name}", tools_of(role, scopes), projects)


@contextmanager
def asked_by(who: Principal | None) -> Iterator[None]:
    """Whatever is asked within is asked by this principal."""
    before = PRINCIPAL.set(who)
    try:
        yield
    finally:
        PRINCIPAL.reset(before)


class House:
    """A data folder whose events have the same ids and times in every test."""

    def __init__(self, folder: Path) -> None:
        self.app = App.open(folder, create=True)
        self.services = GuardedServices(McpServices(self.app))
        self.client = InProcess(self.services, folder="", pid=0)
        self._count = 0

    def close(self) -> None:
        self.app.close()

    def hook(self, session: str, project: str, name: str, **fields: Any) -> int:
        """A hook's report; its position."""
        payload = {"session_id": session, "cwd": project, "hook_event_name": name, **fields}
        return self.append(EventType.HOOK_REPORTED, f"claude-code/{session}", payload)

    def prompt(self, session: str, project: str, text: str) -> int:
        return self.hook(session, project, "UserPromptSubmit", prompt=text)

    def edit(self, session: str, project: str, file: str, text: str) -> int:
        return self.hook(
            session,
            project,
            "PostToolUse",
            tool_name="Edit",
            tool_use_id=f"use-{self._count + 1}",
            tool_input={"file_path": file, "old_string": "", "new_string": text},
            tool_response={"filePath": file},
        )

    def append(self, event_type: str, stream: str, payload: dict[str, Any], actor: str = "user") -> int:
        """An event; its position."""
        self._count += 1
        at = NOW + self._count * 1_000_000
        envelope = Envelope(stream, event_type, 1, at, at, actor, "hook")
        new = NewEvent(capture_id("access", str(self._count)), envelope, json.dumps(payload).encode())
        return self.app.log.append([new])[0].position

    def publish(self) -> None:
        """Seal what is there and build the views; maintenance would append events of its own."""
        self.app.log.roll()
        seal(self.app.log.folder, self.app.log.log_id)
        publish.update(self.app.log, Path(self.app.log.folder))

    def ask(self, who: Principal | None, tool: str, **arguments: Any) -> tuple[str, bool]:
        """A tool's text as the principal gets it, and whether it is an error."""
        from mcp.shared.exceptions import MCPError

        with asked_by(who):
            try:
                return self.client.ask(tool, **arguments)
            except MCPError as error:
                return str(error), True

    def answer(self, who: Principal | None, tool: str, **arguments: Any) -> str:
        """The same, which must be no error."""
        text, failed = self.ask(who, tool, **arguments)
        assert not failed, text
        return text
