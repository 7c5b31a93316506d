"""Secrets of every known shape are taken out; what only looks like one stays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_samples import LOOK_ALIKES, PEM, PLACED, SAMPLES, TOKENS, payloads

from session_mgmt_mcp.core import redact_rules
from session_mgmt_mcp.core.redact import redact, redact_counted

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize(
    ("rule", "parts"), SAMPLES, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(SAMPLES)]
)
def test_a_secret_is_taken_out_wherever_it_stands(rule: str, parts: tuple[str, str, str]) -> None:
    before, secret, after = parts
    for place, payload in payloads(before + secret + after).items():
        result, counts = redact_counted(payload)
        assert secret.encode() not in result, place
        assert f"[redacted:{rule}]".encode() in result, (place, result)
        assert counts == {rule: 1}, place
        assert redact(result) == result, place
        if place != "plain":
            json.loads(result)


@pytest.mark.parametrize(
    "parts", [parts for _, parts in SAMPLES if parts[0]], ids=lambda parts: parts[0].strip()
)
def test_what_is_around_a_secret_stays(parts: tuple[str, str, str]) -> None:
    before, secret, after = parts
    result = redact((before + secret + after).encode()).decode()
    assert result.startswith(before)
    assert result.endswith(after)


@pytest.mark.parametrize("text", LOOK_ALIKES, ids=[f"{i}" for i in range(len(LOOK_ALIKES))])
def test_a_look_alike_stays(text: str) -> None:
    for payload in payloads(text).values():
        assert redact_counted(payload) == (payload, {})


def test_every_rule_has_a_sample() -> None:
    assert {rule[0] for rule in redact_rules.RULES} == {rule for rule, _ in SAMPLES}


def test_an_escaped_slash_hides_nothing() -> None:
    url = (
        "https://hooks.slack.com/services" + PLACED["slack-webhook"][0][1] + " postgres://u:hunter" + "22@h/d"
    )
    result, counts = redact_counted(json.dumps({"a": url}).replace("/", "\\/").encode())
    assert counts == {"slack-webhook": 1, "url-password": 1}
    assert json.loads(result) == {"a": "https://hooks.slack.com/services[redacted:slack-webhook] "
                                       "postgres://u:[redacted:url-password]@h/d"}  # fmt: skip


def test_a_secret_after_an_escape_is_seen() -> None:
    token = TOKENS["github-token"][0]
    for escape in (b"\\n", b"\\t", b"\\\\n", b"\\u000a", b"\\u2192", b"\\\\u2192"):
        assert (
            redact(b'{"a": "x' + escape + token.encode() + b'"}')
            == b'{"a": "x' + escape + b'[redacted:github-token]"}'
        )


def test_several_secrets_in_one_string_all_go() -> None:
    text = " ".join(token for tokens in TOKENS.values() for token in tokens)
    result, counts = redact_counted(json.dumps({"a": text}).encode())
    assert counts == {rule: len(tokens) for rule, tokens in TOKENS.items()}
    assert len(result) < 200 + 40 * sum(counts.values())


def test_the_secret_beside_a_private_part_goes_too() -> None:
    token = TOKENS["github-token"][0]
    result, counts = redact_counted(f"{token} <private>{token}</private> {token}".encode())
    assert result == b"[redacted:github-token] <private>[redacted]</private> [redacted:github-token]"
    assert counts["github-token"] == 2


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(
    value=_JSON,
    before=st.sampled_from(["", " ", "\n", '"', "\\", "é→", "\u2028", "{'", "x = "]),
    after=st.sampled_from(["", " ", "\n", '"', "\\", "→", ",", "'}"]),
    sample=st.sampled_from([(rule, token) for rule, tokens in TOKENS.items() for token in tokens]),
    ascii_only=st.booleans(),
    depth=st.integers(0, 2),
)
def test_a_planted_secret_is_gone_and_the_rest_is_equal(
    value: object, before: str, after: str, sample: tuple[str, str], ascii_only: bool, depth: int
) -> None:
    rule, token = sample

    def document(planted: str) -> str:
        text = json.dumps({"v": value, "planted": before + planted + after}, ensure_ascii=ascii_only)
        for _ in range(depth):
            text = json.dumps([text, value], ensure_ascii=ascii_only)
        return text

    result, counts = redact_counted(document(token).encode())
    assert json.loads(result) == json.loads(document(f"[redacted:{rule}]"))
    assert counts == {rule: 1}


_BITS = [
    b"<private>",
    b"</private>",
    b"\\u003cprivate\\u003e",
    b'"',
    b"\\",
    b"\\n",
    b"a",
    b" ",
    b"password=",
    b"://u:",
    b"@h",
]
_BITS += [
    PEM[:60].encode(),
    PEM[-40:].encode(),
    *(TOKENS[rule][0].encode() for rule in ("github-token", "sk-key", "jwt")),
]


@given(st.lists(st.sampled_from(_BITS) | st.binary(max_size=8), max_size=24).map(b"".join))
def test_redacting_any_bytes_never_raises_and_again_changes_nothing(payload: bytes) -> None:
    result = redact(payload)
    assert redact(result) == result
    assert (result == payload) == (redact_counted(payload)[1] == {})


@given(
    st.lists(
        st.sampled_from(_BITS).filter(lambda bit: bit != b'"') | st.sampled_from([b"\xc3\xa9"]), max_size=24
    )
)
def test_json_stays_json(bits: list[bytes]) -> None:
    text = b"".join(bits).decode()
    for body in (json.dumps([text, {text: text}]), json.dumps([json.dumps([text])], ensure_ascii=False)):
        value = json.loads(redact(body.encode()))
        assert isinstance(value, list) and len(value) == len(json.loads(body))


def _modules_after(payload: bytes) -> set[str]:
    program = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); before = set(sys.modules)\n"
        "from session_mgmt_mcp.core.redact import redact\n"
        f"redact({payload!r})\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    return {name for name in done.stdout.split() if not name.startswith("session_mgmt_mcp")}


def test_a_clean_payload_costs_no_import() -> None:
    for text in LOOK_ALIKES[:8]:
        assert _modules_after(json.dumps({"prompt": text}).encode()) == set()


def test_a_secret_costs_the_import_of_re() -> None:
    assert "re" in _modules_after(TOKENS["github-token"][0].encode())
