"""`load-test`: it notices what a service loses, mends what can be mended, and counts what cannot."""

import asyncio
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.core.entropy import redact_thorough
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.load.http import place_of
from session_mgmt_mcp.tools.load.own_service import OwnService
from session_mgmt_mcp.tools.load.report import svg, text
from session_mgmt_mcp.tools.load.run import LoadReport, LoadTest, Plan
from session_mgmt_mcp.tools.load.tally import Tally, percentiles
from session_mgmt_mcp.tools.load.worker import own_word
from session_mgmt_mcp.tools.progress import quiet

Trouble = Callable[
    [int, str, dict[str, Any]], "str | int | None"
]  # (call, tool, arguments) -> what goes wrong


class Pretended:
    """A service that keeps notes in a list; `trouble` tells what goes wrong with a call: a status, or a word below.

    "cut": stored, and the connection cut before the answer; "lose": acknowledged and not stored; "swap": another's text.
    """

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.notes: list[str] = []
        self.keys: dict[str, int] = {}
        self.authorizations: set[str] = set()
        self.calls = 0
        self._lock = threading.Lock()

    def answer(self, tool: str, arguments: dict[str, Any]) -> "tuple[str | int | None, str]":
        with self._lock:
            self.calls += 1
            trouble = self._trouble(self.calls, tool, arguments)
            if isinstance(trouble, int):
                return trouble, ""
            return trouble, getattr(self, f"_{tool}")(arguments, trouble)

    def _remember(self, arguments: dict[str, Any], trouble: "str | int | None") -> str:
        key = arguments["key"]
        if key in self.keys:
            return f"Remembered before, at position {self.keys[key]}; nothing was added."
        self.notes.append("swapped" if trouble == "swap" else "" if trouble == "lose" else arguments["text"])
        self.keys[key] = len(self.notes)
        return f"Remembered, durably, at position {len(self.notes)}."

    def _timeline(self, arguments: dict[str, Any], trouble: "str | int | None") -> str:
        return f"[{arguments['around']}] {self.notes[arguments['around'] - 1]}"

    def _search(self, arguments: dict[str, Any], trouble: "str | int | None") -> str:
        word = arguments["query"].strip('"')
        return (
            "\n".join(f"[{i}] {note}" for i, note in enumerate(self.notes, 1) if word in note) or "Nothing."
        )


def _handler(service: Pretended) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            service.authorizations.add(self.headers.get("authorization", ""))
            trouble, found = service.answer(asked["params"]["name"], asked["params"]["arguments"])
            if trouble == "cut":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(trouble, int):
                self._send(trouble, b"no", "text/plain")
                return
            result = {"content": [{"type": "text", "text": found}], "isError": trouble == "error"}
            message = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result})
            self._send(200, f"event: message\ndata: {message}\n\n".encode(), "text/event-stream")

        def do_GET(self) -> None:
            body = (
                b'session_mgmt_memory_bytes{kind="anonymous"} 5e+07\n'
                if self.path == "/metrics"
                else b"alive"
            )
            self._send(200, body, "text/plain")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            half = len(body) // 2
            for part in (body[:half], body[half:], b""):
                if part or part is not body[:half]:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

        def log_message(self, *_: object) -> None:
            return

    return Handler


@contextmanager
def _served(trouble: Trouble = lambda *_: None) -> Iterator[tuple[Pretended, str]]:
    service = Pretended(trouble)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service, f"http://127.0.0.1:{server.server_port}/mcp"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _load(url: str, **more: Any) -> LoadReport:
    plan = Plan(**{"url": url, "clients": 3, "seconds": 60.0, "calls": 12, "retry_s": 5.0, **more})
    return asyncio.run(LoadTest(plan, quiet).run())


def _once(wanted: str, what: "str | int") -> Trouble:
    """The trouble, at the third call of the tool."""
    seen = 0

    def trouble(_: int, tool: str, arguments: dict[str, Any]) -> "str | int | None":
        nonlocal seen
        seen += tool == wanted
        return what if tool == wanted and seen == 3 else None

    return trouble


def test_every_acknowledged_note_is_looked_up_and_found() -> None:
    with _served() as (service, url):
        report = _load(url)
    assert report.is_good
    assert report.acknowledged == len(service.notes) > 0
    assert report.looked_up >= report.acknowledged
    assert (report.wrong, report.findings, report.errors) == (0, [], {})
    assert report.answers == sum(found.answers for found in report.tools.values())


@pytest.mark.parametrize("what", ["lose", "swap"])
def test_a_note_that_was_acknowledged_and_is_not_there_is_told(what: str) -> None:
    with _served(_once("remember", what)) as (_, url):
        report = _load(url)
    assert not report.is_good
    assert report.wrong >= 1
    assert any("the note at position 3 was not" in said for said in report.findings)


def test_a_cut_before_the_acknowledgement_is_tried_again_and_stores_once() -> None:
    with _served(_once("remember", "cut")) as (service, url):
        report = _load(url)
    assert report.is_good
    assert report.errors == {"cut": 1}
    assert report.retried == 1
    assert report.acknowledged == len(service.notes) == len(set(service.notes))


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_busy_is_asked_again(status: int) -> None:
    with _served(_once("search", status)) as (_, url):
        report = _load(url)
    assert report.is_good
    assert report.errors == {f"http {status}": 1}


@pytest.mark.parametrize(("what", "kind"), [(403, "http 403"), ("error", "tool error")])
def test_a_refusal_is_not_asked_again_and_counts_as_unanswered(what: "str | int", kind: str) -> None:
    with _served(_once("search", what)) as (_, url):
        report = _load(url)
    assert not report.is_good
    assert report.errors == {kind: 1}
    assert report.unanswered == 1


def test_an_answer_that_never_comes_right_ends_with_its_time() -> None:
    def always(_: int, tool: str, arguments: dict[str, Any]) -> "int | None":
        return 503 if tool == "remember" else None

    with _served(always) as (_, url):
        report = _load(url, retry_s=0.2, calls=1, mix={"remember": 1})
    assert (report.acknowledged, report.answers) == (0, 0)
    assert report.unanswered == 3


def test_where_nothing_listens_there_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_mgmt_mcp.tools.load.run._FIRST_S", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
    with pytest.raises(InputError, match="does not answer as the service does \\(refused\\)"):
        _load(url)


def test_keys_are_handed_round(tmp_path: Path) -> None:
    with _served() as (service, url):
        _load(url, keys=("smk_a_1", "smk_b_2"))
    assert service.authorizations == {"Bearer smk_a_1", "Bearer smk_b_2"}


def test_the_memory_of_the_service_is_read_beside() -> None:
    with _served() as (_, url):
        report = _load(url, metrics=url.replace("/mcp", "/metrics"))
    assert {size for _, size in report.memory_mb} == {50.0}


def test_health_is_asked_over_and_over() -> None:
    with _served() as (service, url):
        report = _load(url, health=True, seconds=0.3)
    assert set(report.tools) == {"health"}
    assert report.answers > 3
    assert service.calls == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "http://10.0.0.1:8000/mcp"], "--yes-this-is-mine"),
        (["--url", "http://localhost.example/mcp"], "--yes-this-is-mine"),
        (["--url", "ftp://127.0.0.1/mcp"], "is no URL"),
        (["--url", "http://127.0.0.1:x/mcp"], "is no URL"),
        (["--url", "http://127.0.0.1:1/mcp", "--clients", "201"], "--clients 201"),
        (["--url", "http://127.0.0.1:1/mcp", "--clients", "0"], "--clients 0"),
        (["--url", "http://127.0.0.1:1/mcp", "--seconds", "3601"], "--seconds 3601"),
        (["--url", "http://127.0.0.1:1/mcp", "--mix", "forget=1"], "--mix"),
        (["--url", "http://127.0.0.1:1/mcp", "--mix", "search"], "--mix"),
        (["--url", "http://127.0.0.1:1/mcp", "--mix", "search=0"], "--mix"),
        (["--url", "http://127.0.0.1:1/mcp", "--key-file", "/nowhere/keys"], "--key-file /nowhere/keys"),
        (["--url", "http://127.0.0.1:1/mcp", "--plot", "/nowhere/plot.svg"], "--plot"),
        (["--url", "http://127.0.0.1:1/mcp", "--plot", "/"], "is a folder"),
    ],
)
def test_what_would_be_no_load_test_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load-test", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_command_reports_plots_and_ends_with_1_where_something_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "load.svg"
    words = [
        "load-test",
        "--clients",
        "2",
        "--seconds",
        "0.5",
        "--mix",
        "remember=1,search=1",
        "--plot",
        str(plot),
    ]
    with _served() as (_, url):
        assert main([*words, "--url", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["wrong"] == 0
    assert set(found["tools"]["search"]["ms"]) == {"p50", "p90", "p95", "p99", "max"}
    drawn = plot.read_text()
    assert drawn.startswith("<svg")
    assert "stroke-dasharray" in drawn
    with _served(_once("remember", "lose")) as (_, url):
        assert main([*words, "--url", url]) == 1
    assert "1 missing or wrong" in re.sub(r"[1-9]\d* missing", "1 missing", capsys.readouterr().out)


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert percentiles([n / 1000 for n in range(1, 101)]) == {
        "p50": 50,
        "p90": 90,
        "p95": 95,
        "p99": 99,
        "max": 100,
    }
    assert set(percentiles([0.5]).values()) == {500}


def test_durations_over_time_are_of_the_part_they_ended_in() -> None:
    tally = Tally()
    for at_s, seconds in ((0.5, 0.1), (0.9, 0.3), (9.5, 0.2), (10.5, 0.4)):
        tally.answered("search", at_s, seconds, seconds, 1)
    found = tally.over_time("search", 10, 10)
    assert [(at, rate) for at, rate, _, _ in found] == [(0.5, 2.0), (9.5, 2.0)]
    assert [p99 for _, _, _, p99 in found] == pytest.approx([300, 400])


def test_a_report_without_answers_is_one() -> None:
    report = LoadReport(
        url="", clients=1, seconds=1.0, answers=0, per_s=0.0, tools={}, errors={"refused": 2}, retried=0, unanswered=1,
        longest_wait_s=0.0, acknowledged=0, looked_up=0, wrong=0, findings=["x"], memory_mb=[], interrupted=True,
    )  # fmt: skip
    assert "refused 2" in text(report, {})
    assert svg(report, {"search": []}).endswith("</svg>\n")


def test_words_of_notes_are_no_secrets_to_redaction_and_no_two_are_equal() -> None:
    words = {own_word("1a2b3c4d", client, number) for client in range(50) for number in range(50)}
    assert len(words) == 2500
    joined = " ".join(words).encode()
    assert redact_thorough(joined) == joined


def test_an_ipv6_address_is_bracketed_in_the_host_header() -> None:
    assert place_of("http://[::1]:8000/mcp").authority == "[::1]:8000"


def test_its_own_service_has_no_settings_of_the_users_and_is_asked_without_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnService(tmp_path / "data", {"SESSION_MGMT_EMBED": "off"})
    for name in ("DATABASE_URL", "MAX_MEMORY_MB", "SESSION_MGMT_HTTP_HOST"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    environment = own._environment()
    assert not {"DATABASE_URL", "MAX_MEMORY_MB", "SESSION_MGMT_HTTP_HOST"} & environment.keys()
    assert environment["SESSION_MGMT_EMBED"] == "off"
    with _served() as (_, url):
        own.url = url
        assert own._is_ready()


def test_a_start_that_is_interrupted_leaves_no_service_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnService(tmp_path / "data")
    said = json.dumps({"mcp": "http://127.0.0.1:1/mcp"})
    monkeypatch.setattr(own, "_command", lambda: ["sh", "-c", f"echo '{said}'; exec sleep 600"])

    def interrupted() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(own, "_is_ready", interrupted)
    with pytest.raises(KeyboardInterrupt), own:
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(own.pid, 0)


@pytest.mark.slow
def test_a_real_service_that_is_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    """Two kills and restarts on the same port: every call is answered in the end, every acknowledged note is there."""
    with OwnService(tmp_path / "data") as own:
        test = LoadTest(Plan(url=own.url, clients=8, calls=25, seconds=600, retry_s=120), quiet)

        async def loaded() -> LoadReport:
            running = asyncio.create_task(test.run())
            for _ in range(2):
                wanted = test.tally.answers + 40
                while test.tally.answers < wanted and not running.done():
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(own.kill)
                await asyncio.to_thread(own.start)
            return await running

        report = asyncio.run(loaded())
        assert own.stop() == 0
    assert report.acknowledged > 20
    assert (report.wrong, report.unanswered) == (0, 0)
    assert report.errors  # the kills were felt
