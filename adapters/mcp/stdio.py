"""The stdio transport: the protocol owns stdout, a line is a message, and the process leaves when its client does.

The SDK's own transport cancels what is under way at the end of input, drops malformed lines without a word, and keeps
the process alive behind a blocked reader; hence this one. The protocol itself stays the SDK's.
"""

import fcntl
import json
import os
import sys
import threading
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from session_mgmt_mcp.adapters.mcp.exit import DRAIN_S_MAX, Exit

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

    from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer


class Wire(NamedTuple):
    """The client's ends of stdin and stdout, out of reach of everything else in the process."""

    reader: IO[bytes]
    writer: IO[bytes]


def claim() -> Wire:
    """Move the wire away from descriptors 0 and 1: reading 0 then gives the end, writing 1 goes to stderr.

    Called before other imports, so that no library, extension or child process can write into the protocol.
    """
    reader = os.fdopen(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3), "rb")
    writer = os.fdopen(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without stderr
        os.dup2(null, 1)
    os.close(null)
    return Wire(reader, writer)


def run(server: "SessionMgmtServer", wire: Wire, leaving: Exit) -> None:
    """Serve the client on the wire until its end of input, then leave the process. Does not return."""
    import anyio

    code = 0
    try:
        anyio.run(_Connection(wire, leaving).serve, server)
    except BaseException:
        import logging

        logging.getLogger(__name__).exception("the server stopped")
        code = 1
    leaving.leave(code)


class _Connection:
    """One client. `_open` holds the ids of requests that still wait for their answer."""

    def __init__(self, wire: Wire, leaving: Exit) -> None:
        self._wire = wire
        self._leaving = leaving
        self._open: set[Any] = set()
        self._settled = threading.Condition()

    async def serve(self, server: "SessionMgmtServer") -> None:
        import anyio

        to_server, from_client = anyio.create_memory_object_stream[Any](0)
        to_client, from_server = anyio.create_memory_object_stream[Any](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write_all, from_server)
            token = anyio.lowlevel.current_token()
            # A daemon thread of our own: the SDK's worker threads would be waited for at exit.
            threading.Thread(
                target=self._read_all, args=(to_server, to_client.clone(), token), name="stdin", daemon=True
            ).start()
            await server.serve(from_client, to_client)

    def _read_all(self, to_server: Any, to_client: Any, token: Any) -> None:
        """Runs in its own thread. Hands each line over before it reads the next one."""
        import anyio.from_thread

        def in_loop(function: Any, *args: Any) -> None:
            anyio.from_thread.run(function, *args, token=token)

        try:
            for line in self._wire.reader:
                if not line.strip():
                    continue
                message, complaint = _parse(line)
                if message is None:
                    in_loop(to_client.send, complaint)
                    continue
                self._note_request(message)
                in_loop(to_server.send, message)
        except Exception as error:  # noqa: BLE001  the loop has ended or the descriptor failed: the end of input
            if os.environ.get("SESSION_MGMT_LOG_LEVEL", "").upper() == "DEBUG":
                print(f"session-mgmt: reading ended: {error!r}", file=sys.stderr)
        self._leaving.input_ended()
        with self._settled:
            self._settled.wait_for(lambda: not self._open, DRAIN_S_MAX)
        try:
            in_loop(to_client.aclose)
            in_loop(to_server.aclose)
        except Exception:  # noqa: BLE001
            return  # the loop has ended before us

    async def _write_all(self, from_server: Any) -> None:
        from anyio import to_thread

        async with from_server:
            async for item in from_server:
                message = item.message
                line = message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                try:
                    await to_thread.run_sync(self._write, line)
                except OSError:  # the client reads no more
                    self._leaving.leave()
                self._note_answer(message)

    def _write(self, line: bytes) -> None:
        self._wire.writer.write(line)
        self._wire.writer.flush()

    def _note_request(self, item: "SessionMessage") -> None:
        method = getattr(item.message, "method", None)
        with self._settled:
            if method == "notifications/cancelled":
                self._open.discard((item.message.params or {}).get("requestId"))  # type: ignore[union-attr]
            elif (
                method != "subscriptions/listen" and (number := getattr(item.message, "id", None)) is not None
            ):
                self._open.add(number)
            self._settled.notify_all()

    def _note_answer(self, message: Any) -> None:
        with self._settled:
            if getattr(message, "method", None) is None:
                self._open.discard(message.id)
            self._settled.notify_all()


def _parse(line: bytes) -> "tuple[SessionMessage, None] | tuple[None, SessionMessage]":
    """The message of a line, or the JSON-RPC error that answers a line that holds none."""
    from mcp.shared.message import SessionMessage
    from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
    from mcp_types.jsonrpc import jsonrpc_message_adapter

    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)), None
    except ValueError:
        pass
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        data = ErrorData(code=PARSE_ERROR, message=f"this line is no JSON: {str(error)[:200]}")
        return None, SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=data))
    number = found.get("id") if isinstance(found, dict) else None
    if isinstance(number, bool) or not isinstance(number, int | str):
        number = None
    wrong = (
        "no JSON-RPC 2.0 message" if isinstance(found, dict) else "no JSON object (batches are not served)"
    )
    data = ErrorData(code=INVALID_REQUEST, message=f"this line is {wrong}")
    return None, SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=data))
