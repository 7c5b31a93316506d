"""Private keys and `<private>` parts, which span lines: whole, torn, nested, in JSON of any depth."""

import json

import pytest
from secret_samples import PEM, payloads

from session_mgmt_mcp.core.redact import redact, redact_counted
from session_mgmt_mcp.core.redact_spans import PRIVATE_KEY


@pytest.mark.parametrize("place", list(payloads("")))
def test_a_private_key_is_taken_out_whole(place: str) -> None:
    payload = payloads(PEM)[place]
    result, counts = redact_counted(payload)
    assert counts == {PRIVATE_KEY: 1}
    assert redact(payloads(PEM)["plain"]) == b"x\n[redacted:private-key]\ny"
    assert b"-----" not in result
    assert redact(result) == result


def test_a_torn_private_key_is_taken_out_to_the_end_of_its_string() -> None:
    head = PEM[: len(PEM) // 2]
    payload = json.dumps({"a": head + "\n… truncated", "b": "kept"}).encode()
    assert json.loads(redact(payload)) == {"a": "[redacted:private-key]", "b": "kept"}


def test_the_tail_of_a_private_key_is_taken_out() -> None:
    tail = PEM[len(PEM) // 2 :]
    payload = json.dumps({"a": 'the end: "' + tail + " kept", "b": "kept"}).encode()
    assert json.loads(redact(payload)) == {"a": 'the end: "[redacted:private-key] kept', "b": "kept"}


def test_a_service_account_file_loses_its_key_only() -> None:
    account = {"type": "service_account", "private_key": PEM.replace("RSA ", "") + "\n", "client_id": "1"}
    for depth in range(3):
        text = json.dumps(account)
        for _ in range(depth):
            text = json.dumps({"content": text})
        value = json.loads(redact(text.encode()))
        for _ in range(depth):
            value = json.loads(value["content"])
        assert value == {**account, "private_key": "[redacted:private-key]\n"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <private>b\nc</private> d", "a <private>[redacted]</private> d"),
        ("a <PRIVATE>b</Private> d", "a <private>[redacted]</private> d"),
        ('a <private>b "quoted" \\ c</private> d', "a <private>[redacted]</private> d"),
        ("a <private>never closed\nto the end", "a <private>[redacted]</private>"),
        ("<private>a <private>b</private> c</private> d", "<private>[redacted]</private> d"),
        (
            "<private>a</private> b <private>c</private>",
            "<private>[redacted]</private> b <private>[redacted]</private>",
        ),
        ("<private></private>", "<private>[redacted]</private>"),
    ],
)
@pytest.mark.parametrize("escaped", [False, True], ids=["plain tags", "escaped tags"])
@pytest.mark.parametrize("nested", [0, 1, 2])
def test_what_is_marked_private_is_taken_out(text: str, expected: str, escaped: bool, nested: int) -> None:
    if not nested and not escaped:
        assert redact(text.encode()) == expected.encode()
    body = json.dumps({"before": "kept", "a": text, "after": "kept"})
    if escaped:
        body = body.replace("<", "\\u003c").replace(">", "\\u003e").replace("/", "\\/")
    if nested and "never closed" in text:
        return  # an unclosed one runs to the end of the outermost string: the next test
    for _ in range(nested):
        body = json.dumps({"text": body})
    result = redact(body.encode())
    assert redact(result) == result
    value = json.loads(result)
    for _ in range(nested):
        value = json.loads(value["text"])
    assert value == {"before": "kept", "a": expected, "after": "kept"}


def test_an_unclosed_private_part_in_nested_json_leaves_the_outer_json_valid() -> None:
    body = json.dumps({"text": json.dumps({"a": "x <private>y", "b": "z"}), "after": "kept"})
    assert json.loads(redact(body.encode())) == {
        "text": '{"a": "x <private>[redacted]</private>',
        "after": "kept",
    }


def test_a_torn_line_of_json_is_taken_as_text() -> None:
    assert redact(b'{"a": "x <private>y", "b": "z') == b'{"a": "x <private>[redacted]</private>'
