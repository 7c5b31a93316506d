"""One kept HTTP/1.1 connection, as little of it as a load test needs: the client shares the machine with what it measures."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from session_mgmt_mcp.core.errors import InputError

_HEAD_BYTES_MAX: Final = 64 << 10
_BODY_BYTES_MAX: Final = 32 << 20


class RequestFailed(Exception):
    """No whole answer came. `kind`: refused, cut, timeout or malformed."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Answer(NamedTuple):
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Place(NamedTuple):
    """Where requests go."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """The Host header's value."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, path: str) -> "Place":
        """Another path of the same server."""
        return self._replace(path=path)


def place_of(url: str, ca_file: str | None = None) -> Place:
    """A URL taken apart; `ca_file`: whose certificates are trusted besides the system's. Raises InputError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!a} is no URL of a service; give one such as http://127.0.0.1:8000/mcp")
    tls = None
    if parts.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise InputError(f"--ca {ca_file}: {error.strerror or error}; give a PEM file") from error
    return Place(parts.hostname, port or (443 if tls else 80), parts.path or "/", tls)


class Connection:
    """One request at a time. Opened at the first, and again where it was cut."""

    def __init__(self, place: Place, timeout_s: float) -> None:
        self._place = place
        self._timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Raises RequestFailed; the connection is then closed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(method, path, headers, body)
        except TimeoutError:
            raise await self._failed("timeout") from None
        except ConnectionRefusedError:
            raise await self._failed("refused") from None
        except (OSError, asyncio.IncompleteReadError):
            raise await self._failed("cut") from None
        except (ValueError, asyncio.LimitOverrunError):
            raise await self._failed("malformed") from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Close it, where it is open."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _failed(self, kind: str) -> RequestFailed:
        await self.close()
        return RequestFailed(kind)

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._writer is None or self._reader is None or self._reader.at_eof():
            await self.close()
            self._reader, self._writer = await asyncio.open_connection(
                self._place.host, self._place.port, ssl=self._place.tls, limit=_HEAD_BYTES_MAX
            )
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._place.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        self._writer.write("\r\n".join([*lines, "\r\n"]).encode("latin-1") + body)
        answer = await _read_answer(self._reader, method)
        if answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer


async def _read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    """Raises ValueError for what is no HTTP, asyncio's errors for what ends too early or too late."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    status = int(first.split(" ", 2)[1])
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(status, headers, await _read_chunks(reader))
    length = int(headers["content-length"]) if "content-length" in headers else 0
    if not 0 <= length <= _BODY_BYTES_MAX:
        raise ValueError("an answer of that size is refused")
    return Answer(status, headers, await reader.readexactly(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts, total = list[bytes](), 0
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";", 1)[0], 16)
        total += size
        if not 0 <= total <= _BODY_BYTES_MAX:
            raise ValueError("an answer of that size is refused")
        chunk = await reader.readexactly(size + 2)
        if not size:
            return b"".join(parts)
        parts.append(chunk[:-2])
