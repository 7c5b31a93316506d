"""The real Claude Code as a client of the service, with a key."""

import json
from pathlib import Path

from attack_kit import data_folder, new_key
from claude_machine import DIRECT_TOOLS, Machine
from service_process import ServiceProcess

from session_mgmt_mcp.core.access import Role


def test_it_stores_and_finds_through_the_service(machine: Machine, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "service" / "data")
    key = new_key(data, "mira", Role.WRITER)
    with ServiceProcess(data, env={"SESSION_MGMT_AUTH": "keys"}, hang_s=300.0) as service:
        entry = {
            "type": "http",
            "url": service.url,
            "headers": {"Authorization": f"Bearer {key.text}"},
        }
        (machine.work / ".mcp.json").write_text(json.dumps({"mcpServers": {"session-mgmt": entry}}))
        settings = {"enableAllProjectMcpServers": True}
        machine.settings.write_text(json.dumps(settings))
        stream, requests = machine.session(
            "remember the marzipan",
            (f"{DIRECT_TOOLS}remember", {"text": "the marzipan is in the third drawer"}),
            (f"{DIRECT_TOOLS}search", {"query": "marzipan drawer"}),
            "done",
            tools=f"{DIRECT_TOOLS}remember,{DIRECT_TOOLS}search",
        )
        assert (stream[-1]["subtype"], stream[-1]["is_error"]) == ("success", False)
        shown = json.dumps(requests[-1]["messages"])
        assert "Remembered, durably" in shown
        assert shown.count("third drawer") >= 2
        offered = {tool["name"] for tool in requests[0]["tools"]}
        assert f"{DIRECT_TOOLS}search" in offered
        assert f"{DIRECT_TOOLS}forget" not in offered, "a writer is not offered what only an admin may"
        assert not [line for line in service.log_lines() if line["level"] == "ERROR"]
