"""The real server with the conformance suite's fixtures added, on Streamable HTTP. Prints the port it listens on.

usage: python conformance_server.py
"""

import logging
import socket
import sys
import warnings

import uvicorn
from conformance_content import add_content
from conformance_input import add_input
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore

from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer, build_server
from session_mgmt_mcp.server import open_services

RETRY_MS = 100


class Events(EventStore):
    """What was sent on each stream, so that one that was cut goes on where it stopped."""

    def __init__(self) -> None:
        self._sent: list[tuple[str, object]] = []

    async def store_event(self, stream_id: str, message: object) -> str:
        self._sent.append((stream_id, message))
        return str(len(self._sent))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id) if last_event_id.isdigit() else 0
        if not 0 < last <= len(self._sent):
            return None
        stream = self._sent[last - 1][0]
        for number, (owner, message) in enumerate(self._sent[last:], start=last + 1):
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))  # type: ignore[arg-type]
        return stream


def served() -> SessionMgmtServer:
    """The server a client gets, and what the suite asks for."""
    server = build_server(open_services)
    add_content(server)
    add_input(server)
    return server


def main() -> None:
    """Serve until killed."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # the suite asks for what later revisions deprecate
    app = served().streamable_http_app(event_store=Events(), retry_interval=RETRY_MS)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1], flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        server.run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
