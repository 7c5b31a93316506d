"""Whatever a fuzzer makes of a request, the service answers, and it is never the service's fault."""

import contextlib
import functools
import http.client
import json
import string
from collections.abc import Iterator
from typing import Any

import pytest
from attack_kit import Target, data_folder, new_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_process import REVISIONS, ServiceProcess, rpc

from session_mgmt_mcp.core.access import ADMIN_TOOLS, Role

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, str]]:
    folder = data_folder(tmp_path_factory.mktemp("fuzzed") / "data")
    key = new_key(folder, "root", Role.ADMIN).text
    with Target(folder, request_timeout_s=20) as service:
        yield service, key


NAMES = st.sampled_from(sorted(ADMIN_TOOLS)) | st.text(max_size=10)
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["../..", "\x00", "-1", "2024-01-01", "9" * 40, "*", '"', "a" * 5000]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
KNOWN = st.sampled_from(
    [
        "query", "limit", "around", "session", "project", "since", "until", "format", "text", "tags", "offset", "actor",
        "kind", "tool", "file", "cursor", "positions", "reason", "action", "key", "branch", "assistant", "summary",
    ]
)  # fmt: skip
CALLS = st.builds(
    lambda name, arguments: ("tools/call", {"name": name, "arguments": arguments}),
    NAMES,
    st.dictionaries(KNOWN | TEXTS, VALUES, max_size=5) | VALUES,
)
METHODS = st.sampled_from(
    [
        "initialize", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get", "resources/list",
        "resources/read", "resources/templates/list", "resources/subscribe", "completion/complete", "logging/setLevel",
        "notifications/initialized", "notifications/cancelled", "subscriptions/listen", "server/discover", "tasks/list",
    ]
)  # fmt: skip
REQUESTS = CALLS | st.tuples(
    METHODS | TEXTS, st.dictionaries(KNOWN | TEXTS | st.just("uri"), VALUES, max_size=4)
)


def sent(
    service: ServiceProcess, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    with contextlib.closing(service.connection()) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(REQUESTS, st.sampled_from(REVISIONS), st.integers() | TEXTS | st.none() | VALUES)
def test_whatever_is_asked_in_json_is_answered_and_never_a_fault(
    target: tuple[Target, str], asked: tuple[str, Any], revision: str, number: Any
) -> None:
    service, key = target
    method, params = asked
    body, headers = rpc(method, params if isinstance(params, dict) else {}, revision)
    message = json.loads(body) | {"id": number}
    if not isinstance(params, dict):
        message["params"] = params
    headers = {name: "".join(filter(str.isprintable, str(value))) for name, value in headers.items()}
    headers = {name: value.encode("ascii", "replace").decode() for name, value in headers.items()}
    headers |= {"authorization": f"Bearer {key}"}
    status, said = sent(service, "POST", "/mcp", json.dumps(message).encode(), headers)
    assert status < 500, (status, said[:500])
    assert b"failed unexpectedly" not in said and b"Traceback" not in said and b"-32603" not in said, said[
        :500
    ]


def of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of about the kind a tool asks for, its bounds not kept."""
    if "anyOf" in schema:
        return st.one_of([of_schema(one) for one in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "array":
        return st.lists(of_schema(schema.get("items", {})), max_size=4)
    words = st.sampled_from(["note", "/srv/a", "7d", "2026-11-23", "today", "all", "smk", "a b"])
    kinds = {
        "integer": st.integers(-2, 60) | st.integers(),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": words | TEXTS,
    }
    return kinds.get(str(kind), VALUES)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_a_tool_is_given_it_answers_or_says_what_is_wrong(
    target: tuple[Target, str], data: st.DataObject
) -> None:
    service, key = target
    tool = data.draw(st.sampled_from(tools_of(service, key)))
    known = tool["inputSchema"]["properties"]
    chosen = set(tool["inputSchema"].get("required", ())) | data.draw(
        st.sets(st.sampled_from(sorted(known) or ["x"]))
    )
    arguments = {name: data.draw(of_schema(known[name])) for name in sorted(chosen) if name in known}
    answer = service.call(tool["name"], arguments, key=key)
    assert answer.status == 200, (arguments, answer)
    assert not any(fault in answer.body for fault in (b"unexpectedly", b"Traceback", b"-32603")), (
        arguments,
        answer,
    )


@functools.cache
def tools_of(service: Target, key: str) -> list[dict[str, Any]]:
    body, headers = rpc("tools/list")
    listed = service.ask("POST", "/mcp", body, headers | {"authorization": f"Bearer {key}"})
    return list(listed.message["result"]["tools"])


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "X-Y"]),
    st.sampled_from(["/mcp", "/health", "/ready", "/metrics", "/"]) | st.text("/.%" + string.hexdigits, max_size=20).map("/".__add__),
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(
            [
                "accept", "content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "origin",
                "last-event-id", "host", "x-forwarded-for", "content-encoding", "authorization", "cookie", "range",
            ]
        ),
        st.text(string.printable[:95], max_size=40) | st.sampled_from(["application/json", "*/*", "text/event-stream", "localhost"]),
        max_size=6,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_asked_of_http_is_answered_and_never_a_fault(
    target: tuple[Target, str], method: str, path: str, body: bytes, headers: dict[str, str], known: bool
) -> None:
    service, key = target
    if known:
        headers = headers | {"authorization": f"Bearer {key}", "host": "localhost"}
    try:
        status, said = sent(service, method, path, body, headers)
    except (http.client.RemoteDisconnected, ConnectionResetError) as error:
        raise AssertionError("no answer") from error
    assert status < 500, (status, said[:500])


def test_after_all_of_it_the_service_is_as_it_was(target: tuple[Target, str]) -> None:
    service, key = target
    assert service.healthy()
    assert not service.call("search", {"query": "anything"}, key=key).message["result"].get("isError", False)
    assert "Traceback" not in service.errors()
    assert service.stop() == 0
