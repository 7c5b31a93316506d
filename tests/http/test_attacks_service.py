"""Attempts to get into a running service that asks for keys, to see what is not meant for one, and to bring it down."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from attack_kit import Target, data_folder, expired_key, new_key
from guarded_server import statuses
from service_process import REVISIONS, Answer, rpc

from session_mgmt_mcp.core.access import Role
from session_mgmt_mcp.tools.access_keys import revoke

pytestmark = pytest.mark.slow  # a process; its parts are attacked in the fast tests
SECRET = "marmalade-7714"
TRAVERSALS = (
    "../../access.json", "..%2f..%2faccess.json", "/etc/passwd", "....//....//etc/passwd", "access.json\x00",
    "\x00", "~/.ssh/id_rsa", "file:///etc/passwd", "%00", "..\\..\\access.json", "%c0%ae%c0%ae/", "C:\\", "'; --",
)  # fmt: skip


class Scene(NamedTuple):
    """A service, and the keys of its users: mira works in /srv/a, noor in /srv/b, root sees everything."""

    service: Target
    mira: str
    noor: str
    root: str


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = data_folder(tmp_path_factory.mktemp("attacked") / "data")
    mira = new_key(folder, "mira", projects=("/srv/a",)).text
    noor = new_key(folder, "noor", projects=("/srv/b",)).text
    root = new_key(folder, "root", Role.ADMIN).text
    with Target(folder, max_body_bytes=1 << 20) as service:
        yield Scene(service, mira, noor, root)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def posted(scene: Scene, headers: dict[str, str], path: str = "/mcp") -> Answer:
    body, own = rpc("tools/list")
    return scene.service.ask("POST", path, body, own | headers)


def failed(answer: Answer) -> bool:
    return "error" in answer.message or answer.message["result"].get("isError", False)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_right_key_comes_in(scene: Scene) -> None:
    assert posted(scene, bearer(scene.mira)).status == 200


def test_without_a_key_nobody_comes_in_and_is_told_how(scene: Scene) -> None:
    answer = posted(scene, {})
    assert answer.status == 401 and answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "shape",
    [
        "Basic {}", "{}", "Bearer", "Bearer  ", "Bearer {} x", "Token {}", "Bearer {}x", "Bearer x{}", "Bearer {:.40}",
        "Bearer smk_", "Bearer {}\t{}", "bearer, Bearer {}",
    ],
)  # fmt: skip
def test_a_key_shown_wrongly_does_not_open(scene: Scene, shape: str) -> None:
    answer = posted(scene, {"authorization": shape.format(scene.mira, scene.mira)})
    assert answer.status in (401, 429)


def test_the_id_of_one_key_with_the_secret_of_another_does_not_open(scene: Scene) -> None:
    prefix, key_id, _ = scene.root.split("_")
    answer = posted(scene, bearer(f"{prefix}_{key_id}_{scene.mira.split('_')[2]}"))
    assert answer.status == 401


def test_a_key_in_the_url_does_not_open(scene: Scene) -> None:
    assert posted(scene, {}, f"/mcp?key={scene.root}&access_token={scene.root}").status == 401


def test_two_keys_in_one_request_do_not_open(scene: Scene) -> None:
    lines = b"".join(f"Authorization: Bearer {key}\r\n".encode() for key in (scene.mira, scene.root))
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    assert statuses(scene.service.raw(head + lines + b"Connection: close\r\n\r\n{}")) == [401]


def test_a_revoked_key_is_refused_from_the_next_request_on(scene: Scene) -> None:
    key = new_key(scene.service.folder, "leaver")
    with contextlib.closing(scene.service.connection()) as connection:
        before = scene.service.call("status", key=key.text, connection=connection)
        revoke(scene.service.folder, key.stored.id)
        after = scene.service.call("status", key=key.text, connection=connection)
    assert (before.status, after.status) == (200, 401)
    assert "revoked" in after.json["error"]["message"]


def test_an_expired_key_is_refused(scene: Scene) -> None:
    answer = posted(scene, bearer(expired_key(scene.service.folder, "guest").text))
    assert answer.status == 401 and "expired" in answer.json["error"]["message"]


def test_guessing_the_secret_of_a_key_is_soon_refused_unseen_and_locks_nobody_out(scene: Scene) -> None:
    key = new_key(scene.service.folder, "victim").text
    prefix, key_id, _ = key.split("_")
    assert posted(scene, bearer(key)).status == 200
    wrong = [posted(scene, bearer(f"{prefix}_{key_id}_{number:064x}")) for number in range(15)]
    assert wrong[-1].status == 429 and int(wrong[-1].headers["retry-after"]) >= 1
    assert posted(scene, bearer(key)).status == 200
    assert posted(scene, bearer(scene.mira)).status == 200


def test_what_is_not_authenticated_is_refused_before_its_body_is_read(scene: Scene) -> None:
    head = (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with contextlib.closing(scene.service.open()) as client:
        client.sendall(head)
        assert client.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_metrics_off_loopback_want_a_key_with_their_scope(scene: Scene) -> None:
    scraper = new_key(scene.service.folder, "prometheus", Role.READER, scopes=("metrics",)).text
    asked = [
        scene.service.ask("GET", "/metrics", headers=headers).status for headers in ({}, bearer(scene.mira))
    ]
    assert asked == [401, 403]
    assert scene.service.ask("GET", "/metrics", headers=bearer(scraper)).status == 200
    assert failed(scene.service.call("search", {"query": SECRET}, key=scraper))


# --- what is another's -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(scene: Scene) -> dict[str, Any]:
    """What noor keeps, and the session and position it lies at."""
    kept = scene.service.call(
        "remember", {"text": f"{SECRET} is the word", "tags": ["quince"]}, key=scene.noor
    )
    assert not failed(kept), kept.body
    found = scene.service.call("search", {"query": SECRET}, key=scene.root).text
    assert SECRET in found
    position = re.search(r"\[(\d+)\]", found)
    assert position is not None, found
    raw = scene.service.call("timeline", {"around": int(position[1]), "format": "raw"}, key=scene.root).text
    return {"position": int(position[1]), "raw": raw}


def test_another_users_session_answers_as_one_that_is_not_there(
    scene: Scene, foreign: dict[str, Any]
) -> None:
    def asked(arguments: dict[str, Any]) -> str:
        text = scene.service.call("timeline", arguments, key=scene.mira).text
        return re.sub(r"\d+", "N", text)

    assert asked({"around": foreign["position"]}) == asked({"around": 10_000_000 + foreign["position"]})
    assert SECRET not in asked({"around": foreign["position"], "format": "raw"})


@pytest.mark.parametrize("tool", ["search", "timeline", "start", "status", "audit"])
def test_no_tool_tells_what_another_user_keeps(scene: Scene, foreign: dict[str, Any], tool: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "search": {"query": f"{SECRET} quince word"},
        "timeline": {"project": "/srv/b"},
        "start": {"project": "/srv/b"},
    }
    answer = scene.service.call(tool, arguments.get(tool, {}), key=scene.mira)
    said = json.dumps(answer.message)
    assert SECRET not in said.replace(f"{SECRET} quince word", "") and "quince" not in said.replace(
        "quince word", ""
    )
    assert "noor" not in said


def test_the_owner_of_it_finds_it(scene: Scene, foreign: dict[str, Any]) -> None:
    assert SECRET in scene.service.call("search", {"query": "quince word"}, key=scene.noor).text


# --- arguments and paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize(
    ("tool", "argument"),
    [
        ("timeline", "session"),
        ("timeline", "project"),
        ("search", "project"),
        ("search", "file"),
        ("start", "project"),
    ],
)
def test_a_path_in_an_argument_reads_no_file(scene: Scene, tool: str, argument: str, path: str) -> None:
    arguments = {"query": "word", argument: path} if tool == "search" else {argument: path}
    answer = scene.service.call(tool, arguments, key=scene.root)
    assert answer.status == 200
    said = json.dumps(answer.message)
    assert "root:x:" not in said and "sha256" not in said and "failed unexpectedly" not in said


def test_a_resource_is_no_file(scene: Scene) -> None:
    for path in TRAVERSALS:
        for uri in (path, f"file://{path}", f"session-mgmt://{path}", f"session://{path}"):
            body, headers = rpc("resources/read", {"uri": uri})
            answer = scene.service.ask("POST", "/mcp", body, headers | bearer(scene.root))
            assert answer.status in (200, 400), answer
            assert "root:x:" not in answer.body.decode() and "sha256" not in answer.body.decode()


# --- bodies ----------------------------------------------------------------------------------------------------------

MALFORMED = [
    b"", b"{", b"null", b"[]", b"[[]]", b"1", b'"x"', b"\x00", b"\xff\xfe", b"{}" * 10, b"NaN", b"-Infinity",
    b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}', b'{"id": 1, "id": 2}',
    b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "tools/list"}', b'{"jsonrpc": "2.0", "id": 1, "method": 7}',
    b'{"jsonrpc": "2.0", "id": 1e400, "method": "tools/list"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "name": "forget"}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "\\ud800"}}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "\xed\xa0\x80"}}',
    b'{"jsonrpc": "2.0", "id": ' + b"9" * 100_000 + b', "method": "tools/list"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"x" * 100_000 + b'"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": '
    + b'{"query": ' * 60 + b"1" + b"}" * 63,
    b"[" * 100_000, b'{"a":' * 100_000, b"[" + b"{}," * 100_000 + b"{}]",
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "'
    + b"w " * 400_000 + b'"}}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"limit": 1e308}}}',
]  # fmt: skip


@pytest.mark.parametrize("revision", REVISIONS)
def test_malformed_bodies_are_answered_with_what_is_wrong(scene: Scene, revision: str) -> None:
    with contextlib.closing(scene.service.connection()) as connection:
        for body in MALFORMED:
            _, headers = rpc("tools/call", {"name": "search"}, revision)
            connection.request("POST", "/mcp", body, headers | bearer(scene.root))
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status < 500, (body[:80], answer.status, said[:200])
            assert b"Traceback" not in said and b"failed unexpectedly" not in said, body[:80]


def test_an_oversized_body_is_refused_and_the_client_sees_why(scene: Scene) -> None:
    answer = scene.service.ask("POST", "/mcp", b" " * (2 << 20), rpc("tools/list")[1] | bearer(scene.root))
    assert answer.status == 413 and "1048576" in answer.json["error"]["message"]


def test_the_limits_of_a_head_hold_in_the_service(scene: Scene) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    assert statuses(scene.service.raw(head + b"X: 1\r\n" * 200 + b"\r\n")) == [431]
    assert statuses(scene.service.raw(head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")) == [
        400
    ]
    assert (
        scene.service.ask("GET", "/metrics", headers={"host": "evil.example"} | bearer(scene.root)).status
        == 200
    )
    assert posted(scene, bearer(scene.root) | {"host": "evil.example"}).status == 421
    assert posted(scene, bearer(scene.root) | {"origin": "http://localhost"}).status == 403


# --- logs ------------------------------------------------------------------------------------------------------------


def test_what_a_client_says_forges_no_line_of_the_log_and_no_secret_gets_there(scene: Scene) -> None:
    forged = '\x1b[2K{"level": "INFO", "message": "forged"}'
    posted(
        scene,
        bearer(scene.mira) | {"user-agent": forged, "host": forged, "origin": forged, "x-request-id": forged},
    )
    posted(scene, {"authorization": f"Bearer smk_{forged}"})
    scene.service.ask("GET", "/%0d%0a%7b%22message%22:%20%22forged%22%7d%1b%5b2K")
    scene.service.raw(b"GET /\x1b[2Kforged HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n")
    scene.service.call("search", {"query": SECRET}, key=scene.root)
    scene.service.call("forged\r\n\x1b[2K", {}, key=scene.root)
    written = scene.service.errors()
    lines = written.splitlines()
    assert lines and all("message" in json.loads(line) for line in lines)
    assert not any(json.loads(line)["message"] == "forged" for line in lines)
    assert not set(written) & (set(map(chr, range(32))) - {"\n"})
    for secret in (scene.mira, scene.root, scene.root.rpartition("_")[2], SECRET):
        assert secret not in written


def test_afterwards_the_service_works_as_before(scene: Scene) -> None:
    assert scene.service.healthy()
    assert not failed(scene.service.call("search", {"query": "anything"}, key=scene.mira))
    assert "Traceback" not in scene.service.errors()
