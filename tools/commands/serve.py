"""`serve`: the MCP server, over HTTP for many clients or on stdio for one."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.cli import emit_json, note

logger = logging.getLogger(__name__)

EXAMPLE = "session-mgmt-mcp serve --http --port 8000"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--http",
        action="store_true",
        help="many clients over Streamable HTTP; without it one client on stdio",
    )
    parser.add_argument("--host", help="address to listen on (default: SESSION_MGMT_HTTP_HOST, 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="port to listen on (default: SESSION_MGMT_HTTP_PORT, 8000; 0: any)"
    )


def run(args: argparse.Namespace) -> int:
    """0 after SIGTERM or SIGINT; 1: an address is taken; 3 and 6 as everywhere."""
    if not args.http:
        if args.host is not None or args.port is not None:
            raise InputError("--host and --port are for --http; give it too")
        os.execv(sys.executable, [sys.executable, "-P", "-m", "session_mgmt_mcp.server"])
    return serve_http(args.host, args.port, as_json=args.json)


def serve_http(host: str | None, port: int | None, *, as_json: bool) -> int:
    """Serve until told to stop. Then ends the process at once: a thread that is still at work must not keep it."""
    with _signals_of_a_start():
        from session_mgmt_mcp.tools.service import Given, Service

        service = Service.open(Given(host, port))
    if as_json:
        emit_json({"pid": os.getpid(), **service.addresses})
        sys.stdout.flush()
    else:
        note(f"serving {service.addresses['mcp']}; Ctrl-C stops")
    code = 1
    try:
        code = asyncio.Runner().run(service.run())
    except Exception:
        logger.exception("the service failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def _signals_of_a_start() -> Iterator[None]:
    """Until the service takes them over HUP is not to end the process, and TERM is: the system keeps it from a container's
    first process unless that asks for it. What was before is put back where the start fails.
    """
    before = {
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: os._exit(0)),
    }
    try:
        yield
    except BaseException:
        for number, handler in before.items():
            signal.signal(number, handler)
        raise
