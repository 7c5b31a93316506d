"""Fake services whose answers say who gave them, to whom. See `mcp_shared_server`."""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from mcp_fake_server import FakeServices

from session_mgmt_mcp.adapters.mcp.caller import caller, request_key
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
        told = {"pid": os.getpid(), "caller": caller(), "key": request_key(), "query": query[:100]}
        more = "x" * int(query[4:]) if query.startswith("big ") else ""
        raise InputError(json.dumps(told) + more)
