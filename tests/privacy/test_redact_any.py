"""Whatever stands around the letters of any rule: JSON stays JSON, nothing is found twice, a batch gives the same."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from session_mgmt_mcp.core.entropy import redact_thorough, redact_thorough_many
from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.core.redact_rules import RULES

LITERALS = sorted({literal.decode() for rule in RULES for literal in rule[1]})
_RUNS = [
    "a1B2c3D4e5F6g7H8i9J0" * 3,
    "0123456789abcdef" * 4,
    "Zm9vYmFyOmJhejEyMw==",
    "hunter22",
    "x",
    "7Q~",
    "-",
    "_",
    ".",
]
_GLUE = [
    "\n",
    "\t",
    "\\",
    '"',
    "'",
    "`",
    " ",
    ": ",
    "=",
    ":=",
    "=>",
    "/",
    "@",
    "é",
    "\u2028",
    "\x00",
    "<private>",
    "</private>",
]
_BITS = (
    st.sampled_from(LITERALS)
    | st.sampled_from([lit.upper() for lit in LITERALS])
    | st.sampled_from(_RUNS + _GLUE)
)
TEXTS = st.lists(_BITS, max_size=12).map("".join)
CLEAN = b'{"prompt": "' + b"nothing to hide here " * 4000 + b'"}'


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.booleans(), st.integers(0, 2))
def test_json_stays_json_of_the_same_shape(text: str, ascii_only: bool, depth: int) -> None:
    body = text
    for _ in range(depth):
        body = json.dumps({"t": body}, ensure_ascii=ascii_only)
    payload = json.dumps({"a": [body, "kept"], "b": body}, ensure_ascii=ascii_only).encode()
    for act in (redact, redact_thorough):
        value = json.loads(act(payload))
        assert set(value) == {"a", "b"} and value["a"][1] == "kept"
        assert act(act(payload)) == act(payload)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_a_batch_gives_what_each_payload_gives(texts: list[str]) -> None:
    payloads = [json.dumps({"a": text}).encode() for text in texts] + [text.encode() for text in texts]
    assert redact_thorough_many([CLEAN, *payloads]) == [CLEAN, *map(redact_thorough, payloads)]
