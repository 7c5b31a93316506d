"""Random values given to secret-looking names are taken out; what is random and no secret stays."""

import hashlib
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_samples import LOOK_ALIKES, _mixed, payloads

from session_mgmt_mcp.core.entropy import (
    _CANDIDATE,
    _SOUGHT,
    _candidates,
    assigned,
    entropy,
    redact_thorough,
    redact_thorough_many,
)

HEX40 = hashlib.sha1(b"mill").hexdigest()
SECRETS = [
    ("STRIPE_ISH=1\nMY_TOKEN=", _mixed("a", 32), "\n"),
    ('"stripeKey": "', _mixed("b", 24), '"'),
    ("token: ", _mixed("c", 20), "\n"),
    ('"auth_key":"', HEX40, '"'),
    ("client.token = '", _mixed("d", 40), "'"),
    ("x-figma-token: ", _mixed("e", 40), "\n"),
    ("CI_PAT=", _mixed("f", 40), " run"),
    ("db_cred := `", _mixed("g", 28), "`"),
    ("SmtpPwd=", _mixed("h", 20), ";"),
]
OTHERS = [
    f"commit {HEX40} by token holder",
    f"sha256:{hashlib.sha256(b'x').hexdigest()}",
    f'"integrity": "sha512-{_mixed("i", 86)}=="',
    f'"cache_key": "{HEX40}"',
    f"Key: setup-uv-1-x86_64-unknown-linux-gnu-0.7.13-{hashlib.sha256(b'y').hexdigest()}",
    f'"key": "{uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)}"',
    f'"public_key": "{_mixed("j", 44)}"',
    f'"keyId": "{_mixed("k", 24)}"',
    f'"token": "toolu_01{_mixed("l", 22)}"',
    f'"page_token": "{_mixed("m", 32)}"',
    'auth = "app.settings.backends.TokenBackend2"',
    "key=user_profile_page_2024_11_01",
    "token = os.environ.get_token_2(path)",
    "monkey=" + _mixed("n", 32),
    '"author": "' + _mixed("o", 24) + '"',
    '"max_tokens": 1234567890123456789',
    "key: /etc/ssl/private/host1-key2.pem",
    "foreignKey='orders_customer_id_fk_20240101'",
    "API token 2024-01-01T00:00:00.000Z",
]


@pytest.mark.parametrize(("before", "secret", "after"), SECRETS)
def test_a_random_value_of_a_secret_name_is_taken_out(before: str, secret: str, after: str) -> None:
    for place, payload in payloads(before + secret + after).items():
        result = redact_thorough(payload)
        assert secret.encode() not in result, place
        assert redact_thorough(result) == result, place
        if place != "plain":
            json.loads(result)


@pytest.mark.parametrize("text", [*OTHERS, *LOOK_ALIKES])
def test_what_only_looks_random_stays(text: str) -> None:
    for payload in payloads(text).values():
        assert assigned(payload) == (payload, 0)


def test_a_batch_gives_what_each_payload_gives() -> None:
    texts = ["".join(parts) for parts in SECRETS] + OTHERS
    all_of_them = [payload for text in texts for payload in payloads(text).values()]
    clean = b'{"prompt": "' + b"nothing to hide here " * 4000 + b'"}'
    assert redact_thorough_many([clean, *all_of_them]) == [clean, *map(redact_thorough, all_of_them)]


def test_entropy_is_that_of_the_bytes() -> None:
    assert (entropy(b""), entropy(b"aaaa"), entropy(b"abab"), entropy(bytes(range(16)))) == (0, 0, 1, 4)


_PARTS = [*_SOUGHT, b"Key", b"SECRET", b"=", b": ", b'":"', b" ", b"_", b"Zq8vN2xR4tY6wB1k", b"x", b"\n"]


@given(st.lists(st.sampled_from(_PARTS), max_size=12).map(b"".join))
def test_candidates_are_those_the_pattern_alone_finds(payload: bytes) -> None:
    found = [match.span() for match in _candidates(payload)]
    assert found == [match.span() for match in _CANDIDATE.finditer(payload)]
