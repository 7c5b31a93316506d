"""The real service, `serve --http`, with the conformance suite's fixtures added to its server.

usage: python conformance_service.py, then the arguments of `serve --http`
"""

import sys
import warnings
from typing import Any

from conformance_content import add_content
from conformance_input import add_input

from session_mgmt_mcp.adapters.mcp import server as served
from session_mgmt_mcp.tools.cli import main

build_server = served.build_server


def with_fixtures(*args: Any) -> served.SessionMgmtServer:
    """The server a client gets, and what the suite asks for."""
    server = build_server(*args)
    add_content(server)
    add_input(server)
    return server


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the suite asks for what later revisions deprecate
    served.build_server = with_fixtures
    sys.exit(main(sys.argv[1:]))
