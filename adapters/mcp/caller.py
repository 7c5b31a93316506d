"""Who asks: set for each connection and each request, readable in the tools' threads.

A server may serve the clients of other servers on its data folder (`host`), so its own parent and working folder say
nothing of who asked.
"""

import os
from contextvars import ContextVar
from typing import NamedTuple

REQUEST_KEY = "session-mgmt/request"  # in a request's `_meta`; set by the server itself, never by clients


class Caller(NamedTuple):
    """The process that started the client's server, and the folder it started it in ("" where that is gone)."""

    pid: int
    folder: str


CALLER: ContextVar[Caller] = ContextVar("session_mgmt_caller")
REQUEST: ContextVar[str | None] = ContextVar("session_mgmt_request", default=None)


def own_caller() -> Caller:
    """Who started this process."""
    try:
        folder = os.getcwd()
    except OSError:
        folder = ""
    return Caller(os.getppid(), folder)


def caller() -> Caller:
    """Who asked what is being answered now; who started this process where no connection is served."""
    return CALLER.get(None) or own_caller()


def request_key() -> str | None:
    """A key that stays the same when this very request is sent again because a host died; None outside of one."""
    return REQUEST.get()
