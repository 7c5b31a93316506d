"""Sockets, TLS and uvicorn: apps are served until they are told to stop, and drained.

uvicorn's own handling of signals is left out: it raises the signal again when it has stopped, so that the process would
not exit with 0.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from session_mgmt_mcp.adapters.http.handshake import Handshake
from session_mgmt_mcp.adapters.http.protocol import GuardedProtocol
from session_mgmt_mcp.core.errors import SessionMgmtError, SettingsError

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than proxies keep idle connections (nginx: 60), so that they never use one that we just closed
_OVERTIME_S = 1.0  # for what is cancelled at the end of the drain to end


class ListenError(SessionMgmtError):
    """An address cannot be listened on: taken, not this machine's, or not allowed."""

    kind = "listen"


class Site(NamedTuple):
    """An app and where it is served. `lifespan`: whether the app wants to be started and ended."""

    app: Any
    listening: socket.socket
    protocol: type[GuardedProtocol]
    tls: ssl.SSLContext | None = None
    lifespan: bool = False
    handshake_s: float = 10.0  # for the handshake of TLS


def listen(host: str, port: int, what: str) -> socket.socket:
    """A socket that listens there; port 0: any free one. `what`: http or metrics, for the message. Raises ListenError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # a name that cannot be one of the DNS
        why = error.strerror if isinstance(error, OSError) else "that is no name of a host"
        raise ListenError(f"cannot listen on {host}: {why}; set {what}_host to another") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what listens there, or set "
            f"{what}_port (SESSION_MGMT_{what.upper()}_PORT) to another"
        ) from error
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """`host:port`, as in a URL."""
    if listening.family == socket.AF_UNIX:
        return str(listening.getsockname())
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """TLS 1.2 or later with this certificate. Raises SettingsError where a file cannot be read or they do not match."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, cert_file, key_file)
    return context


def load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Have new connections shown this certificate; where that fails the one before stays. Raises SettingsError."""
    where = f"tls_cert_file {cert_file} and tls_key_file {key_file}"
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # a failed load leaves half of it in a context
    for name, path in (("tls_cert_file", cert_file), ("tls_key_file", key_file)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise SettingsError(
                f"{name}: cannot read {path}: {error.strerror}; mend it or its permissions"
            ) from error
    try:
        trial.load_cert_chain(cert_file, key_file, _no_password)
        context.load_cert_chain(cert_file, key_file, _no_password)
    except (ssl.SSLError, OSError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or error
        raise SettingsError(
            f"{where}: {why}; give a PEM certificate (chain) and its own unencrypted key"
        ) from error


def _no_password() -> str:
    """Of an encrypted key. Without it OpenSSL would ask at the terminal."""
    return ""


class _Server(uvicorn.Server):
    """uvicorn's, which leaves signals alone, and gives a client that does not shake hands no longer than its head."""

    handshake_s: float

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's for sockets that are given, which would wait a minute for the handshake of TLS and count no connection
        before it is over.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        config, loop = self.config, asyncio.get_running_loop()
        kind: Any = config.http_protocol_class

        def plain() -> GuardedProtocol:
            made: GuardedProtocol = kind(config, self.server_state, self.lifespan.state, loop)
            return made

        def secured() -> asyncio.Protocol:
            assert config.ssl is not None
            return Handshake(plain, kind.pool, config.ssl, self.handshake_s)

        self.servers = [
            await loop.create_server(secured if config.ssl else plain, sock=listening, backlog=config.backlog)
            for listening in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Servers:
    """Serves sites until `stop`."""

    def __init__(self, sites: Sequence[Site]) -> None:
        """The first site is drained first; the others serve until it is."""
        self._sites = sites
        self._servers = [_server(site) for site in sites]
        self._stopping = asyncio.Event()
        self._drain_s = 0.0

    @property
    def started(self) -> bool:
        """Whether all of them accept connections."""
        return all(server.started for server in self._servers)

    def stop(self, drain_s: float) -> None:
        """Accept no more connections; requests at work get this long to finish."""
        self._drain_s = drain_s
        self._stopping.set()

    async def run(self) -> bool:
        """Serve. Whether everything at work at the stop was answered in time."""
        tasks = [
            asyncio.create_task(server.serve([site.listening]), name=f"http {address_of(site.listening)}")
            for site, server in zip(self._sites, self._servers, strict=True)
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            whole = True
            for task, server in zip(tasks, self._servers, strict=True):
                whole = await self._end(task, server) and whole
            return whole
        finally:
            stopping.cancel()

    async def _end(self, task: "asyncio.Task[None]", server: _Server) -> bool:
        """Stop a server; whether it was done before the time was up, after which it cuts off what is at work."""
        seconds = max(1, round(self._drain_s))
        server.config.timeout_graceful_shutdown = seconds
        server.should_exit = True
        clock = asyncio.get_running_loop().time
        began = clock()
        done, _ = await asyncio.wait([task], timeout=seconds + _OVERTIME_S)
        if done:
            task.result()
        return bool(done) and clock() - began < seconds


def _server(site: Site) -> _Server:
    server = _Server(_config(site))
    server.handshake_s = site.handshake_s
    return server


def _config(site: Site) -> uvicorn.Config:
    tls = site.tls
    return uvicorn.Config(
        site.app,
        http=site.protocol,
        ws="none",
        lifespan="on" if site.lifespan else "off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # `addresses` says whose word counts
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )
