"""A server over fake services that shares the folder named first. Its answers say who gave them, to whom.

search: "who" is answered with the process that answers, the caller and the request's key; "hang" never comes back in the
first process that takes it up (it makes <folder>/taken) and is answered by any other; "big N" is answered with N
characters. The services are imported when they are opened: what a bridge loads is looked at.
"""

import sys
from typing import Any


def open_telling() -> Any:
    from mcp_telling_services import TellingServices

    return TellingServices()


if __name__ == "__main__":
    from session_mgmt_mcp.server import serve

    serve(open_telling, folder=sys.argv[1])
