"""What is answered without the SDK is what the SDK would answer, and handing over loses and repeats nothing."""

import contextlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp_raw_client import FAKE_SERVER, RawClient

from session_mgmt_mcp.adapters.mcp import surface as surfaces
from session_mgmt_mcp.adapters.mcp.bake import bake
from session_mgmt_mcp.adapters.mcp.caller import Caller
from session_mgmt_mcp.adapters.mcp.engine import Engine
from session_mgmt_mcp.adapters.mcp.fast import HandOverError, Opening
from session_mgmt_mcp.adapters.mcp.surface import ENVELOPE_REVISION, HANDSHAKE_REVISIONS, METHODS, Surface

INFO = {"name": "test", "version": "1"}
VERSION, CAPABILITIES = (
    f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientCapabilities")
)
ENVELOPE = {VERSION: ENVELOPE_REVISION, CAPABILITIES: {}, "io.modelcontextprotocol/clientInfo": INFO}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
Ask = Callable[[list[bytes]], list[dict[str, Any]]]


def line(number: Any, method: str, params: Any = None) -> bytes:
    message = {"jsonrpc": "2.0", "id": number, "method": method}
    return json.dumps(message if params is None else {**message, "params": params}).encode() + b"\n"


def hello(revision: Any = "2025-06-18", capabilities: Any = None, info: Any = INFO) -> bytes:
    params = {"protocolVersion": revision, "capabilities": capabilities or {}, "clientInfo": info}
    return line(0, "initialize", params)


def note(method: str = "notifications/initialized", **params: Any) -> bytes:
    return (
        json.dumps({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}).encode()
        + b"\n"
    )


@pytest.fixture(scope="module")
def surface() -> Surface:
    loaded = Surface.load()
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def ask_sdk() -> Iterator[Ask]:
    """Feeds lines to a connection of its own on the SDK; what is answered until the last request has its answer."""
    from session_mgmt_mcp.server import _build

    def no_services() -> Any:
        raise AssertionError("none is needed")

    engine = Engine(lambda: _build(no_services), lambda: None)

    def ask(lines: list[bytes]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        done = threading.Event()

        def send(answer: bytes, answers_id: str) -> None:
            if answers_id == '"last"':
                done.set()
            else:
                answers.append(json.loads(answer))

        connection = engine.connect(Caller(1, ""), send, lambda: None)
        for one in lines:
            connection.feed(one, "")
        connection.feed(line("last", "nothing/known"), "")
        assert done.wait(30)
        connection.end()
        return answers

    yield ask


def answer_fast(surface: Surface, lines: list[bytes]) -> tuple[list[dict[str, Any]], int]:
    """The answers given without the SDK, and how many lines that were."""
    opening, answers = Opening(surface), []
    for number, one in enumerate(lines):
        try:
            answer = opening.answer(one)
        except HandOverError:
            return answers, number
        if answer:
            answers.append(json.loads(answer))
    return answers, len(lines)


def test_the_baked_answers_are_those_of_the_server_as_it_is() -> None:
    with open(surfaces.FILE, encoding="utf-8") as file:
        assert json.load(file) == bake(), "run `python -m session_mgmt_mcp.adapters.mcp.bake`"


@pytest.mark.parametrize("revision", HANDSHAKE_REVISIONS)
def test_a_handshake_and_all_lists_need_no_sdk_and_read_as_its_own(
    revision: str, surface: Surface, ask_sdk: Ask
) -> None:
    lines = [
        hello(revision),
        note(),
        *(line(f"n{n}", m, surfaces.params_of(m)) for n, m in enumerate(METHODS)),
    ]
    answers, taken = answer_fast(surface, lines)
    assert taken == len(lines) and answers[0]["result"]["protocolVersion"] == revision
    assert by_id(answers) == by_id(ask_sdk(lines))


def test_the_revision_without_a_handshake_needs_no_sdk_and_reads_as_its_own(
    surface: Surface, ask_sdk: Ask
) -> None:
    lines = [line(0, "server/discover", {"_meta": ENVELOPE})]
    for number, method in enumerate(METHODS, 1):
        lines.append(line(number, method, {**surfaces.params_of(method), "_meta": ENVELOPE}))
    answers, taken = answer_fast(surface, lines)
    assert taken == len(lines)
    assert by_id(answers) == by_id(ask_sdk(lines))


def by_id(answers: list[dict[str, Any]]) -> dict[Any, str]:
    """Also the order of the keys is compared. The SDK may answer in another order."""
    return {answer["id"]: json.dumps(answer) for answer in answers}


CLAUDE_CODE = {"roots": {"listChanged": True}, "elicitation": {"form": {}, "url": {}}, "sampling": {}}
FULL_INFO = {**INFO, "title": "T", "websiteUrl": "https://x.example", "description": "d"}


@pytest.mark.parametrize(
    "lines",
    [
        [hello(capabilities=CLAUDE_CODE, info=FULL_INFO), note(), line(1, "tools/list")],
        [hello("1999-01-01"), line(1, "prompts/list", {"_meta": {"progressToken": 3}})],
        [line(1, "ping"), hello(), line(2, "ping", {})],
        [hello(capabilities={"experimental": {"a/b": {"c": [1]}}, "unheard/of": {}}), line(1, "ping")],
        [line(5, "tools/list", {"_meta": {**ENVELOPE, CAPABILITIES: CLAUDE_CODE, "progressToken": "t"}})],
        [hello(), note("notifications/cancelled", requestId=7), line(7, "tools/list")],
    ],
    ids=["claude-code", "unknown-revision", "ping-first", "odd-capabilities", "no-discover", "cancelled"],
)
def test_openings_of_clients_as_they_are_need_no_sdk(
    lines: list[bytes], surface: Surface, ask_sdk: Ask
) -> None:
    answers, taken = answer_fast(surface, lines)
    assert taken == len(lines)
    assert by_id(answers) == by_id(ask_sdk(lines))


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([line(1, "tools/list")], 0),
        ([b"not json\n"], 0),
        ([b"[]\n"], 0),
        ([b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]\n'], 0),
        ([b'{"jsonrpc": "2.0", "id": null, "method": "ping"}\n'], 0),
        ([b'{"jsonrpc": "2.0", "id": 1.0, "method": "ping"}\n'], 0),
        ([b'{"jsonrpc": "2.0", "id": true, "method": "ping"}\n'], 0),
        ([b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}\n'], 0),
        ([b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"x": NaN}}}\n'], 0),
        ([b'{"jsonrpc": "2.0", "id": 1, "result": {}}\n'], 0),
        ([b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}\n'], 0),
        ([hello(revision=7)], 0),
        ([hello(info={"name": "x"})], 0),
        ([hello(info={"name": "x", "version": 1})], 0),
        ([hello(capabilities={"roots": {"listChanged": "yes"}})], 0),
        ([hello(capabilities={"sampling": 3})], 0),
        ([hello(), hello()], 1),
        ([hello(), note(), line(1, "tools/call", {"name": "status", "arguments": {}})], 2),
        ([hello(), line(1, "tools/list", {"cursor": "x"})], 1),
        ([hello(), line(1, "tools/list", {"_meta": {"progressToken": True}})], 1),
        ([hello(), line(1, "tools/list", {"_meta": ENVELOPE})], 1),
        ([hello(), line(1, "server/discover")], 1),
        ([line(1, "server/discover", {"_meta": ENVELOPE}), hello()], 1),
        ([line(1, "server/discover", {"_meta": ENVELOPE}), line(2, "tools/list")], 1),
        ([line(1, "tools/list", {"_meta": {**ENVELOPE, VERSION: "2031-01-01"}})], 0),
        ([line(1, "tools/list", {"_meta": {VERSION: ENVELOPE_REVISION}})], 0),
        ([line(1, "subscriptions/listen", {"notifications": {"x": 1}, "_meta": ENVELOPE})], 0),
        ([hello(), line(1, "tools/list", {"_meta": {"x": "y" * 70_000}})], 1),
    ],
)
def test_what_is_unusual_is_left_to_the_sdk(surface: Surface, lines: list[bytes], kept: int) -> None:
    assert answer_fast(surface, lines)[1] == kept


def test_without_the_file_or_with_another_versions_everything_is_left_to_the_sdk(tmp_path: Any) -> None:
    file = tmp_path / "surface.json"
    assert Surface.load(str(file)) is None
    for text in ("", "[]", '{"version": "0"}', '{"version": "0", "handshake": {}, "envelope": {}}'):
        file.write_text(text)
        assert Surface.load(str(file)) is None
    with pytest.raises(HandOverError):
        Opening(None).answer(hello())


def test_whatever_is_answered_without_the_sdk_it_would_answer_alike(surface: Surface, ask_sdk: Ask) -> None:
    """Well-formed openings with parts replaced at random."""
    chance = random.Random(5)
    compared = 0
    for _ in range(150):
        lines = [scrambled(chance, one) for one in opening(chance)]
        answers, taken = answer_fast(surface, lines)
        compared += len(answers)
        theirs = by_id(ask_sdk(lines[:taken]))
        assert by_id(answers) == {number: theirs[number] for number in by_id(answers)}, lines
        assert len(theirs) == len(answers), lines
    assert compared > 100


def opening(chance: random.Random) -> list[dict[str, Any]]:
    methods = chance.sample([*METHODS, "server/discover", "initialize", "logging/setLevel", "x/y"], 3)
    meta = {"_meta": dict(ENVELOPE)}
    if chance.random() < 0.5:
        first = {"jsonrpc": "2.0", "id": 0, "method": "server/discover", "params": meta}
        return [
            first,
            *({"jsonrpc": "2.0", "id": n, "method": m, "params": meta} for n, m in enumerate(methods, 1)),
        ]
    first = json.loads(hello(chance.choice(HANDSHAKE_REVISIONS), CLAUDE_CODE, FULL_INFO))
    return [
        first,
        dict(INITIALIZED),
        *({"jsonrpc": "2.0", "id": n, "method": m} for n, m in enumerate(methods, 1)),
    ]


ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [1],
    {"a": 1},
    {"a": {}},
    "2025-06-18",
    ENVELOPE_REVISION,
    "é" * 9,
]


def scrambled(chance: random.Random, message: dict[str, Any]) -> bytes:
    """The message with at most one part replaced, removed or added."""
    message = json.loads(json.dumps(message))
    if chance.random() < 0.4:
        at: Any = message
        while True:
            key = chance.choice([*at, "extra"])
            if isinstance(at.get(key), dict) and at[key] and chance.random() < 0.8:
                at = at[key]
                continue
            if key in at and chance.random() < 0.3:
                del at[key]
            elif (at is not message or key == "params") and key != "requestId":
                at[key] = chance.choice(ODD)
            break
    return json.dumps(message, ensure_ascii=chance.random() < 0.5).encode() + b"\n"


def test_the_sdk_is_not_loaded_before_it_is_needed() -> None:
    with RawClient() as client:
        client.initialize()
        for method in METHODS:
            client.request(method, surfaces.params_of(method))
        assert "pydantic" not in modules(client)
        client.call("status")
        assert "pydantic" in modules(client)


def modules(client: RawClient) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{client.process.pid}/maps") as maps:
        return maps.read()
    pytest.skip("needs /proc")


def test_requests_sent_without_waiting_are_each_answered_once_over_the_handing_over() -> None:
    """The lists before and after a call, in one burst, in both eras."""
    call = {"name": "search", "arguments": {"query": "login"}}
    legacy = [hello(), note(), *(line(n, "tools/list") for n in range(1, 4)), line(4, "tools/call", call)]
    modern = [
        line(n, method, {**(call if method == "tools/call" else {}), "_meta": ENVELOPE})
        for n, method in enumerate(
            ("server/discover", "tools/list", "tools/call", "tools/list", "prompts/list")
        )
    ]
    for burst in ([*legacy, *(line(n, "tools/list") for n in range(5, 8))], modern):
        done = subprocess.run(
            [sys.executable, FAKE_SERVER], input=b"".join(burst), capture_output=True, check=True
        )
        answers = [json.loads(one) for one in done.stdout.splitlines()]
        expected = [json.loads(one).get("id") for one in burst if b'"id"' in one]
        assert sorted(answer["id"] for answer in answers) == expected
        assert all("result" in answer for answer in answers)
        (text,) = (
            answer["result"]["content"][0]["text"] for answer in answers if "content" in answer["result"]
        )
        assert "found login" in text


def test_after_the_handing_over_the_era_holds() -> None:
    with RawClient() as client:
        client.request("server/discover", {"_meta": ENVELOPE})
        assert client.request("initialize", {"protocolVersion": "2025-06-18"})["error"]["code"] == -32022
        assert client.request("tools/list", {"_meta": ENVELOPE})["result"]["resultType"] == "complete"
        assert client.request("tools/list")["error"]["code"] == -32602
    with RawClient() as client:
        client.initialize()
        assert client.request("tools/list", {"_meta": ENVELOPE})["error"]["code"] == -32600
        assert client.request("tools/list")["result"]["tools"]
