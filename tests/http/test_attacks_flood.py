"""Floods: a thousand clients at once, slow ones, and ones that do not read."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attack_kit import Target, data_folder, new_key
from guarded_server import statuses
from service_process import rpc

from session_mgmt_mcp.core.access import Role

pytestmark = pytest.mark.slow
CLIENTS = 1000
GROWTH_BYTES_MAX = 256 << 20


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, str]]:
    folder = data_folder(tmp_path_factory.mktemp("flooded") / "data")
    key = new_key(folder, "root", Role.ADMIN).text
    with Target(folder, header_timeout_s=6, request_timeout_s=10) as service:
        for number in range(30):
            service.call("remember", {"text": f"note {number} " + "of some length " * 200}, key=key)
        yield service, key


def message(key: str, tool: str, arguments: dict[str, Any], *, close: bool = True) -> bytes:
    body, headers = rpc("tools/call", {"name": tool, "arguments": arguments})
    headers |= {"host": "localhost", "content-length": str(len(body)), "authorization": f"Bearer {key}"}
    if close:
        headers["connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body


async def talk(port: int, text: bytes, *, reads: bool = True) -> bytes:
    """Send and read until the service closes; b"" where it never let us in."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    found = b""
    with contextlib.suppress(OSError):
        writer.write(text)
        while reads and (part := await reader.read(1 << 16)):
            found += part
    writer.close()
    return found


async def with_health(port: int, attack: Callable[[], Awaitable[Any]]) -> tuple[Any, int, int]:
    """Run it and ask /health all the while: what it gave, how often health was asked, and answered 200."""
    asked = answered = 0
    running = asyncio.ensure_future(attack())
    while not running.done():
        asked += 1
        answered += statuses(
            await talk(port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        ) == [200]
    return await running, asked, answered


def test_a_thousand_clients_at_once_are_all_answered_and_health_meanwhile(target: tuple[Target, str]) -> None:
    service, key = target
    text = message(key, "search", {"query": "note length"})
    asyncio.run(talk(service.port, text))
    before = service.memory_bytes()

    async def flood() -> list[bytes]:
        return await asyncio.gather(*(talk(service.port, text) for _ in range(CLIENTS)))

    answers, asked, answered = asyncio.run(with_health(service.port, flood))
    counted = Counter(status for answer in answers for status in statuses(answer))
    assert sum(counted.values()) == CLIENTS and set(counted) <= {200, 503, 504}, counted
    assert counted[200] >= 64
    assert asked == answered > 0
    assert service.memory_bytes() - before < GROWTH_BYTES_MAX
    assert statuses(asyncio.run(talk(service.port, text))) == [200]


def test_a_thousand_strangers_are_all_told_that_a_key_is_needed(target: tuple[Target, str]) -> None:
    service, _ = target
    text = message("", "search", {"query": "note"}).replace(b"authorization: Bearer \r\n", b"")

    async def flood() -> list[bytes]:
        return await asyncio.gather(*(talk(service.port, text) for _ in range(CLIENTS)))

    answers, asked, answered = asyncio.run(with_health(service.port, flood))
    assert Counter(status for answer in answers for status in statuses(answer)) == {401: CLIENTS}
    assert asked == answered > 0


def test_a_thousand_heads_that_never_end_are_cut_off_and_others_served_meanwhile(
    target: tuple[Target, str],
) -> None:
    service, key = target
    half = message(key, "search", {"query": "note"})[:60]
    whole = message(key, "search", {"query": "note"})

    async def flood() -> tuple[list[bytes], list[int]]:
        slow = [asyncio.ensure_future(talk(service.port, half)) for _ in range(CLIENTS)]
        served = [statuses(await talk(service.port, whole)) for _ in range(5)]
        return await asyncio.gather(*slow), [status for one in served for status in one]

    (answers, served), asked, answered = asyncio.run(with_health(service.port, flood))
    assert Counter(status for answer in answers for status in statuses(answer)) == {408: CLIENTS}
    assert served == [200] * 5
    assert asked == answered > 0


def test_bodies_that_never_end_hold_no_slot(target: tuple[Target, str]) -> None:
    service, key = target
    half = message(key, "search", {"query": "note"})[:-5]
    whole = message(key, "search", {"query": "note"})

    async def flood() -> tuple[list[bytes], list[int]]:
        slow = [asyncio.ensure_future(talk(service.port, half)) for _ in range(200)]
        served = [statuses(await talk(service.port, whole)) for _ in range(5)]
        return await asyncio.gather(*slow), [status for one in served for status in one]

    (answers, served), asked, answered = asyncio.run(with_health(service.port, flood))
    assert Counter(status for answer in answers for status in statuses(answer)) == {408: 200}
    assert served == [200] * 5
    assert asked == answered > 0


def test_clients_that_do_not_read_cost_bounded_memory(target: tuple[Target, str]) -> None:
    service, key = target
    text = message(key, "timeline", {"format": "detailed", "limit": 50}, close=False)
    asyncio.run(talk(service.port, message(key, "timeline", {"format": "detailed", "limit": 50})))
    before = service.memory_bytes()

    async def flood() -> list[int]:
        deaf = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1024)
            writer.write(text * 5)
            deaf.append((reader, writer))
        served = [
            statuses(await talk(service.port, message(key, "search", {"query": "note"}))) for _ in range(3)
        ]
        for _, writer in deaf:
            writer.transport.abort()
        return [status for one in served for status in one]

    served, asked, answered = asyncio.run(with_health(service.port, flood))
    assert served == [200] * 3
    assert asked == answered > 0
    assert service.memory_bytes() - before < GROWTH_BYTES_MAX


def test_with_few_connections_allowed_a_thousand_leave_health_and_work_going(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "data")
    key = new_key(folder, "root", Role.ADMIN).text
    with Target(folder, max_connections=100, header_timeout_s=4) as service:

        async def flood() -> list[int]:
            idle = [asyncio.ensure_future(talk(service.port, b"GET /")) for _ in range(CLIENTS)]
            served = []
            for _ in range(20):  # one that came in with a thousand others may have to come again
                served += statuses(await talk(service.port, message(key, "status", {})))
                if len(served) == 5:
                    break
            await asyncio.gather(*idle)
            return served

        served, asked, answered = asyncio.run(with_health(service.port, flood))
        assert served == [200] * 5
        assert answered > 0.9 * asked  # as for work: some are turned away in the very crowd


def test_after_all_of_it_the_service_is_as_it_was(target: tuple[Target, str]) -> None:
    service, key = target
    assert service.healthy()
    assert "note 7" in service.call("search", {"query": "note 7 length"}, key=key).text
    assert "Traceback" not in service.errors()
    assert service.stop() == 0
