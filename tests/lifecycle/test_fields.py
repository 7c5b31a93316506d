"""Strings are read out of a payload, and put into an answer, as a JSON parser would."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.claude_code.fields import escaped, string_of

TEXT = st.text(max_size=60).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


@given(text=TEXT, other=TEXT, ascii_only=st.booleans())
def test_a_string_is_read_as_a_parser_reads_it(text: str, other: str, ascii_only: bool) -> None:
    raw = json.dumps({"cwd": other, "prompt": text, "x": {"prompt": "no"}}, ensure_ascii=ascii_only).encode()
    assert string_of(raw, b"prompt") == text
    assert string_of(raw, b"cwd") == other


@given(text=TEXT)
def test_an_escaped_text_is_read_back_by_a_parser(text: str) -> None:
    assert json.loads(b'"' + escaped(text) + b'"') == text


@given(text=st.text('ab"\\\n\u00e9\U0001f600', max_size=80), limit=st.integers(1, 50))
def test_a_long_string_is_cut_to_its_beginning(text: str, limit: int) -> None:
    assert string_of(json.dumps({"prompt": text}).encode(), b"prompt", limit) == text[:limit]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", ""),
        (b'{"prompt": 7}', ""),
        (b'{"a": "prompt", "prompt" : \n "x"}', "x"),
        (b'{"a": "\\"prompt\\": \\"no\\"", "prompt": "yes"}', "yes"),
        (b'{"prompt": "torn', "torn"),
        (b'{"prompt": "torn\\', "torn"),
        (b'{"prompt": "\\ud83d alone"}', "\ufffd alone"),
        (b'{"prompt": "\\uZZZZ"}', "\ufffd"),
        (b'{"prompt": "\xff\xfe"}', "\ufffd\ufffd"),
    ],
)
def test_what_is_no_json_gives_what_can_be_read(raw: bytes, found: str) -> None:
    assert string_of(raw, b"prompt") == found
