"""The SDK, loaded when something first needs it, serving any number of connections from one event loop.

The loop runs in a thread of its own: the main thread reads the client's lines, and may do so long before this is here.
"""

import json
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from session_mgmt_mcp.adapters.mcp.caller import CALLER, REQUEST_KEY, Caller, own_caller

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

    from session_mgmt_mcp.adapters.mcp.front import Front
    from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer

logger = logging.getLogger(__name__)

# Writes a line to a client, with the JSON of the id it answers, else "". May block; OSError when the client is gone.
Send = Callable[[bytes, str], None]


class Engine:
    """The server object and its event loop. Every method may be called from any thread but the loop's."""

    def __init__(self, build: "Callable[[], SessionMgmtServer]", failed: Callable[[], None]) -> None:
        self._build = build
        self._failed = failed
        self._lock = threading.Lock()
        self._server: SessionMgmtServer | None = None
        self._tasks: Any = None
        self._token: Any = None

    def connect(self, caller: Caller, send: Send, gone: Callable[[], None]) -> "Connection":
        """A new connection; the first one waits until the SDK is loaded. `gone` is called when `send` failed."""
        return Connection(self.start(), self._tasks, self._token, caller, send, gone)

    def start(self) -> "SessionMgmtServer":
        """Load the SDK and start its loop, unless that was done."""
        with self._lock:
            if self._server is None:
                server = self._build()
                started = threading.Event()
                threading.Thread(target=self._run, args=(started,), name="engine", daemon=True).start()
                started.wait()
                self._server = server
            return self._server

    def serve(self, front: "Front") -> "Connection":
        """A link for this process's own client."""
        link = self.connect(
            own_caller(), lambda line, answers: front.deliver(link, line, answers), front.gone
        )
        return link

    def close(self) -> None:
        """Let go of what the tools opened."""
        if self._server is not None:
            self._server.close()

    def _run(self, started: threading.Event) -> None:
        import anyio

        async def loop() -> None:
            async with anyio.create_task_group() as tasks:
                self._tasks, self._token = tasks, anyio.lowlevel.current_token()
                started.set()
                await anyio.sleep_forever()

        try:
            anyio.run(loop)
        except BaseException:
            logger.exception("the server stopped")
            self._failed()


class Connection:
    """One client's protocol session. `feed` blocks while the session has not yet taken up the line before."""

    def __init__(
        self,
        server: "SessionMgmtServer",
        tasks: Any,
        token: Any,
        caller: Caller,
        send: Send,
        gone: Callable[[], None],
    ) -> None:
        import anyio

        self._token, self._send, self._gone = token, send, gone
        self._to_server, from_client = anyio.create_memory_object_stream[Any](0)
        self._to_client, from_server = anyio.create_memory_object_stream[Any](0)
        # A thread of its own at most: a client that does not read must not use up those the tools run in.
        self._limiter = anyio.CapacityLimiter(1)

        async def serve() -> None:
            CALLER.set(caller)
            try:
                await server.serve(from_client, self._to_client.clone())
            except Exception:  # whatever it is, one connection must not end the others
                logger.exception("a connection failed")
                self._gone()

        async def start() -> None:
            tasks.start_soon(self._write_all, from_server)
            tasks.start_soon(serve)

        self._in_loop(start)

    def feed(self, line: bytes, key: str) -> None:
        """Hand a client's line over. `key` names the request, the same when it is sent again."""
        message, complaint = _parse(line)
        if message is None:
            self._in_loop(self._to_client.send, complaint)
            return
        _mark(message.message, key)
        self._in_loop(self._to_server.send, message)

    def end(self) -> None:
        """The client will send no more."""
        try:
            self._in_loop(self._to_client.aclose)
            self._in_loop(self._to_server.aclose)
        except Exception:  # noqa: BLE001  the loop has ended before us
            return

    def _in_loop(self, function: Any, *args: Any) -> None:
        import anyio.from_thread

        anyio.from_thread.run(function, *args, token=self._token)

    async def _write_all(self, from_server: Any) -> None:
        from anyio import to_thread

        async with from_server:
            async for item in from_server:
                message = item.message
                line = message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                answers = "" if getattr(message, "method", None) else json.dumps(message.id)
                try:
                    await to_thread.run_sync(self._send, line, answers, limiter=self._limiter)
                except OSError:  # the client reads no more
                    self._gone()
                    return


def _mark(message: Any, key: str) -> None:
    """Put the request's key where the tools find it. A client's own value there counts for nothing."""
    if getattr(message, "method", None) != "tools/call" or not isinstance(message.params, dict):
        return
    meta = message.params.setdefault("_meta", {})
    if isinstance(meta, dict):
        meta[REQUEST_KEY] = key


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
