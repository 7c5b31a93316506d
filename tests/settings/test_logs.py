"""The service's log: lines of JSON that quote no request, a file that is rotated, a disk that is full."""

import asyncio
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.http.access_log import AccessLog
from session_mgmt_mcp.adapters.http.ports import Call
from session_mgmt_mcp.core.access import PRINCIPAL, Principal, Role
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.core.requests import REQUEST, Request
from session_mgmt_mcp.tools import logging_setup
from session_mgmt_mcp.tools.logging_setup import FILE_NAME, LogFile, Logs

MIRA = Principal("mira", Role.READER, "k1", frozenset(["search"]), None)
logger = logging.getLogger("session_mgmt_mcp.test")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Logs]:
    logs = logging_setup.start(ServiceSettings(log_dir=str(tmp_path / "logs")))
    yield logs
    logs.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / FILE_NAME


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_a_line_says_when_where_what_and_for_whom(log: Logs, file: Path) -> None:
    request = REQUEST.set(Request("abcdef0123456789", "10.0.0.7"))
    principal = PRINCIPAL.set(MIRA)
    logger.info("sealed %d events", 12, extra={"tool": "search", "ms": 1.5})
    PRINCIPAL.reset(principal)
    REQUEST.reset(request)
    (line,) = _lines(file)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "session_mgmt_mcp.test",
        "message": "sealed 12 events",
        "request_id": "abcdef0123456789",
        "principal": "mira",
        "address": "10.0.0.7",
        "tool": "search",
        "ms": 1.5,
    }


@pytest.mark.parametrize(
    "text", ["a\nforged line", "\r\x1b[2Jgone", "\x00\x07\x9b", "\u2028\u2029\u202e", "lone \ud800"]
)
def test_control_characters_cannot_forge_or_hide_a_line(text: str, log: Logs, file: Path) -> None:
    # to the handler itself: what the test runner captures must be text it can send to another process
    log.handler.handle(logger.makeRecord("x", logging.INFO, "", 0, "%s", (text,), None))
    raw = file.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    assert _lines(file)[0]["message"] == text


def test_an_exception_is_its_kind_and_place_without_what_it_quotes(log: Logs, file: Path) -> None:
    def fail() -> None:
        try:
            raise ValueError("the query 'top secret plan' is bad")
        except ValueError as error:
            raise OSError(28, "No space left on device", "/a/secret name") from error

    request = REQUEST.set(Request("abcdef0123456789", "10.0.0.7"))
    try:
        fail()
    except OSError:
        logger.exception("a request failed")
    REQUEST.reset(request)
    (line,) = _lines(file)
    assert line["exception"] == "OSError: No space left on device"
    assert line["frames"][-1].endswith(" fail")
    assert "secret" not in file.read_text()


def test_an_exception_beside_all_requests_says_what_to_mend(log: Logs, file: Path) -> None:
    for error in (
        ImportError("no module named x"),
        SettingsError("rate_limit is 'x'"),
        ValueError("a payload"),
    ):
        logger.error("upkeep failed", exc_info=error)
    said = [line["exception"] for line in _lines(file)]
    assert said == ["ImportError: no module named x", "SettingsError: rate_limit is 'x'", "ValueError"]


def test_records_of_the_sdk_keep_their_text_and_lose_what_it_quotes(log: Logs, file: Path) -> None:
    logging.getLogger("mcp.server.x").warning("Tool %r failed: %r", "search", "no match for my secret")
    logging.getLogger("mcp.server.x").info("Received message: my secret")
    (line,) = _lines(file)
    assert line["message"] == "Tool %r failed: %r"
    log.set_level("DEBUG")
    logging.getLogger("mcp.server.x").debug("Received message: my secret")
    assert len(_lines(file)) == 1


def test_values_that_do_not_fit_their_text_lose_no_line(log: Logs, file: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text of it")

    def say(
        text: str, *values: object, **extra: object
    ) -> None:  # by itself: the test runner's handlers raise
        log.handler.handle(logger.makeRecord("x", logging.INFO, "", 0, text, values, None, extra=extra))

    say("%s", Odd())
    say("%d", "seven")
    say("after", status=Odd())
    say("whole")
    assert [line["message"] for line in _lines(file)] == ["%s", "%d", "1 lines were lost", "whole"]


def test_the_level_may_change_while_the_service_runs(log: Logs, file: Path) -> None:
    logger.debug("too little")
    log.set_level("DEBUG")
    logger.debug("enough")
    log.set_level("ERROR")
    logger.warning("too little again")
    assert [line["message"] for line in _lines(file)] == ["enough"]


def test_the_file_and_its_folder_are_private(log: Logs, file: Path) -> None:
    logger.info("x")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_long_file_is_rotated_and_only_some_are_kept(keep: int, tmp_path: Path) -> None:
    logs = Logs(LogFile(str(tmp_path), 1000, keep), "INFO")
    for number in range(60):
        logger.info("line %02d", number)
    logs.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [FILE_NAME, *(f"{FILE_NAME}.{n}" for n in range(1, keep + 1))]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = [line for n in range(keep, 0, -1) for line in _lines(tmp_path / f"{FILE_NAME}.{n}")]
    said = [line["message"] for line in [*kept, *_lines(tmp_path / FILE_NAME)]]
    assert said == [f"line {number:02}" for number in range(60 - len(said), 60)]


def test_a_file_that_was_moved_away_is_begun_anew_on_reopen(log: Logs, file: Path) -> None:
    logger.info("old")
    file.rename(file.with_name("moved"))
    logger.info("still old")
    log.reopen()
    logger.info("new")
    assert [line["message"] for line in _lines(file.with_name("moved"))] == ["old", "still old"]
    assert [line["message"] for line in _lines(file)] == ["new"]


def test_a_file_that_was_moved_away_costs_no_rotated_one(tmp_path: Path) -> None:
    logs = Logs(LogFile(str(tmp_path), 1000, 2), "INFO")
    for number in range(30):
        logger.info("line %02d", number)
    before = [(tmp_path / f"{FILE_NAME}.{n}").read_bytes() for n in (1, 2)]
    (tmp_path / FILE_NAME).unlink()
    while not (tmp_path / FILE_NAME).exists():
        logger.info("until it is full")
    logs.close()
    assert [(tmp_path / f"{FILE_NAME}.{n}").read_bytes() for n in (1, 2)] == before


def test_a_thread_that_fails_is_in_the_log(log: Logs, file: Path) -> None:
    def failing() -> None:
        raise OSError("no thread of ours may die unseen")

    thread = threading.Thread(target=failing, name="probe")
    thread.start()
    thread.join()
    (line,) = _lines(file)
    assert (line["level"], line["message"]) == ("CRITICAL", "the thread probe ended by an error")
    assert line["exception"] == "OSError: no thread of ours may die unseen"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here: a full disk cannot be played")
def test_a_full_disk_costs_lines_and_nothing_else(log: Logs, file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/full")
    log.reopen()
    for _ in range(3):
        logger.info("nowhere to go")
    file.unlink()
    log.reopen()
    logger.info("room again")
    assert [line["message"] for line in _lines(file)] == ["3 lines were lost", "room again"]


def test_a_folder_that_goes_away_stops_nothing(log: Logs, file: Path) -> None:
    logger.info("x")
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file in its place")
    log.reopen()
    logger.info("nowhere to go")
    assert log.handler.lost == 1


def test_a_folder_that_cannot_be_made_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SettingsError, match=r"log_dir: cannot write .*SESSION_MGMT_LOG_DIR"):
        logging_setup.start(ServiceSettings(log_dir=str(tmp_path / "taken")))


def test_what_was_not_opened_is_closed_without_complaint(tmp_path: Path) -> None:
    """At the end of the process logging closes every handler there is."""
    (tmp_path / "taken").write_text("")
    handler = LogFile.__new__(LogFile)
    with pytest.raises(OSError):
        handler.__init__(str(tmp_path / "taken"), 1000, 1)  # type: ignore[misc]
    handler.close()


def test_without_a_folder_lines_go_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    logs = logging_setup.start(ServiceSettings())
    logger.warning("to whom it may concern")
    logs.close()
    assert json.loads(capfd.readouterr().err)["message"] == "to whom it may concern"


def test_lines_of_many_threads_stay_whole(log: Logs, file: Path) -> None:
    def say(name: int) -> None:
        for number in range(50):
            logger.info("%d %d", name, number)

    threads = [threading.Thread(target=say, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line["message"] for line in _lines(file)}) == 400


# -- a line for each request


async def _ask(
    app: Any, path: str = "/mcp", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"q=my+secret",
        "headers": list(headers),
        "client": ("10.0.0.7", 4711),
    }
    await AccessLog(app)(scope, receive, send)
    return sent


async def _answer(scope: Any, receive: Any, send: Any, status: int = 200) -> None:
    call = Call()
    call.tool, call.outcome = "search", "error"
    scope["state"].update(call=call, principal=MIRA)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"my secret"})


def test_a_request_leaves_one_line_without_what_was_asked(log: Logs, file: Path) -> None:
    sent = asyncio.run(_ask(_answer))
    (line,) = _lines(file)
    request_id = dict(sent[0]["headers"])[b"x-request-id"].decode()
    wanted = {"principal": "mira", "address": "10.0.0.7", "tool": "search", "outcome": "error", "status": 200}
    assert line | wanted | {"request_id": request_id, "path": "/mcp", "method": "POST"} == line
    assert line["ms"] >= 0
    assert "secret" not in file.read_text()


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"proxy-id.0001", True), (b"short", False), (b"x" * 65, False), (b'quoted" id!', False)],
)
def test_a_proxys_request_id_is_kept_where_it_is_one(given: bytes, kept: bool, log: Logs, file: Path) -> None:
    sent = asyncio.run(_ask(_answer, headers=((b"x-request-id", given),)))
    (line,) = _lines(file)
    assert (line["request_id"] == given.decode()) is kept
    assert dict(sent[0]["headers"])[b"x-request-id"].decode() == line["request_id"]


def test_a_request_that_breaks_is_logged_as_failed(log: Logs, file: Path) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        asyncio.run(_ask(broken))
    assert [(line["status"], line["outcome"]) for line in _lines(file)] == [(0, "failed")]


def test_a_client_that_went_away_is_no_failure_in_the_log_either(log: Logs, file: Path) -> None:
    async def left(scope: Any, receive: Any, send: Any) -> None:
        call = scope["state"]["call"] = Call()
        call.outcome = "gone"

    asyncio.run(_ask(left))
    assert [(line["status"], line["outcome"]) for line in _lines(file)] == [(0, "gone")]


def test_probes_are_logged_only_where_they_say_no(log: Logs, file: Path) -> None:
    async def no(scope: Any, receive: Any, send: Any) -> None:
        await _answer(scope, receive, send, 503)

    asyncio.run(_ask(_answer, "/health"))
    asyncio.run(_ask(no, "/ready"))
    assert [(line["path"], line["outcome"]) for line in _lines(file)] == [("/ready", "failed")]


def test_a_long_or_forged_path_stays_a_field(log: Logs, file: Path) -> None:
    asyncio.run(_ask(_answer, "/\n" + "x" * 5000))
    (line,) = _lines(file)
    assert line["path"].startswith("/\nxxx")
    assert len(line["path"]) == 200
