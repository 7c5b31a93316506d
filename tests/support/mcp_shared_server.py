"""A server over fake services that shares the folder named first. Its answers say who gave them, to whom.

search: "who" is answered with the process that answers, the caller and the request's key; "hang" never comes back in the
first process that takes it up (it makes <folder>/taken) and is answered by any other; "sleep" takes until <folder>/wake
exists; "big N" is answered with N characters.
"""

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_fake_server import FakeServices

from session_mgmt_mcp.adapters.mcp.caller import caller, request_key
from session_mgmt_mcp.core.envelope import Receipt
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.results import Moments

FOLDER = Path(sys.argv[1])


class TellingServices(FakeServices):
    """Reports itself in what a search is answered with."""

    def search(self, query: str, *, limit: int, **filters: Any) -> Moments:
        if query == "hang":
            try:
                (FOLDER / "taken").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                threading.Event().wait()
        if query == "sleep":
            (FOLDER / "asleep").touch()
            while not (FOLDER / "wake").exists():
                threading.Event().wait(0.01)
        told = {"pid": os.getpid(), "caller": caller(), "key": request_key(), "query": query[:100]}
        more = "x" * int(query[4:]) if query.startswith("big ") else ""
        raise InputError(json.dumps(told) + more)

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> Receipt:
        with open(FOLDER / "remembered", "a") as file:
            file.write(json.dumps([request_key(), text]) + "\n")
        return super().remember(text, tags, project, session, key)


if __name__ == "__main__":
    from session_mgmt_mcp.server import serve

    serve(TellingServices, folder=str(FOLDER))
