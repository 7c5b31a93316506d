"""Redacting many payloads at once gives what redacting each gives."""

from hypothesis import given, settings
from hypothesis import strategies as st
from secret_samples import LOOK_ALIKES, PEM, SAMPLES, payloads

from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.core.redact_batch import redact_many

CLEAN = b'{"prompt": "' + b"nothing to hide here " * 4000 + b'"}'  # enough bytes for the batch search

TEXTS = (
    ["".join(parts) for _, parts in SAMPLES]
    + LOOK_ALIKES
    + [PEM, PEM[:200], PEM[200:], "a <private>b", "A <PRIVATE>B"]
)
ALL = [payload for text in TEXTS for payload in payloads(text).values()]


def test_a_batch_gives_what_each_payload_gives() -> None:
    result = redact_many([CLEAN, *ALL])
    assert result == [CLEAN, *map(redact, ALL)]
    assert sum(redacted != payload for redacted, payload in zip(result[1:], ALL, strict=True)) > 200


def test_a_small_batch_gives_the_same() -> None:
    assert redact_many(ALL[:6]) == [redact(payload) for payload in ALL[:6]]
    assert redact_many([]) == []


@settings(deadline=None)  # the first batch compiles the search
@given(
    st.sampled_from(TEXTS),
    st.sampled_from(["", "x", "Z", "\\n", "\\u000a", "é", "_", "-", "n", '"', " ", "\\\\n", "/"]),
    st.binary(max_size=12),
    st.booleans(),
)
def test_a_batch_misses_nothing_at_any_boundary(text: str, before: str, around: bytes, upper: bool) -> None:
    payload = around + before.encode() + (text.upper() if upper else text).encode() + around
    assert redact_many([CLEAN, payload, b"", payload])[1:] == [redact(payload), b"", redact(payload)]
