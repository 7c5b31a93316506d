"""Secrets of every known shape are taken out; what only looks like one stays. Samples are put together here at run
time, so that no scanner takes this file for a leak.
"""

import base64
import hashlib
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.core import redact_rules
from session_mgmt_mcp.core.redact import PRIVATE_KEY, redact, redact_counted

SRC = Path(__file__).resolve().parents[2] / "src"


def _digest(seed: str) -> str:
    return hashlib.sha512(seed.encode()).hexdigest()


def _mixed(seed: str, length: int) -> str:
    """Letters of both cases and digits, as an issuer's random part has them."""
    text = base64.b64encode(hashlib.sha512(seed.encode()).digest() * 4).decode()
    return "A1z" + "".join(c for c in text if c.isalnum())[: length - 3]


def _upper(seed: str, length: int) -> str:
    return base64.b32encode(hashlib.sha512(seed.encode()).digest()).decode()[:length]


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


PEM = "\n".join(
    [
        "-----BEGIN RSA PRIV" + "ATE KEY-----",
        *[_mixed(f"pem{i}", 64) for i in range(5)],
        "-----END RSA PRIV" + "ATE KEY-----",
    ]
)

# rule -> samples: (text, the secret in it)
TOKENS: dict[str, list[str]] = {
    "github-token": [f"gh{kind}_" + _mixed(kind, 36) for kind in "pousr"]
    + ["github" + "_pat_" + _mixed("a", 22) + "_" + _mixed("b", 59)],
    "gitlab-token": ["gl" + "pat-" + _mixed("c", 10) + "-_" + _mixed("d", 8), "gl" + "rt-" + _mixed("e", 20)],
    "slack-token": [
        "xo" + "xb-123456789012-1234567890123-" + _mixed("f", 24),
        "xo" + "xp-123456789012-123456789012-123456789012-" + _digest("g")[:32],
        "xo" + "xe.xo" + "xp-1-" + _upper("h", 80),
        "xa" + "pp-1-A0123456789-1234567890123-" + _digest("i")[:64],
    ],
    "aws-access-key-id": ["AK" + "IA" + _upper("j", 16), "AS" + "IA" + _upper("k", 16)],
    "google-api-key": ["AI" + "za" + _mixed("l", 16) + "-_" + _mixed("m", 17)],
    "google-oauth-token": ["ya" + "29." + _mixed("n", 60)],
    "google-client-secret": ["GOC" + "SPX-" + _mixed("o", 28)],
    "anthropic-key": ["sk-" + "ant-api03-" + _mixed("p", 60) + "-_" + _mixed("q", 29) + "AA"],
    "openai-key": ["sk-" + "proj-" + _mixed("r", 74) + "T3Blbk" + "FJ" + _mixed("s", 74)],
    "sk-key": [
        "sk-" + _mixed("t", 20) + "T3Blbk" + "FJ" + _mixed("u", 20),
        "sk-" + "or-v1-" + _digest("v")[:64],
    ],
    "stripe-key": [
        "sk_" + "live_" + _mixed("w", 24),
        "rk_" + "live_" + _mixed("x", 24),
        "sk_" + "test_" + _mixed("y", 99),
        "wh" + "sec_" + _mixed("z", 32),
    ],
    "npm-token": ["np" + "m_" + _mixed("aa", 36)],
    "pypi-token": ["py" + "pi-AgEI" + "cHlwaS5vcmc" + _mixed("ab", 150)],
    "hugging-face-token": ["h" + "f_" + _mixed("ac", 34)],
    "sendgrid-key": ["S" + "G." + _mixed("ad", 22) + "." + _mixed("ae", 43)],
    "twilio-key": ["S" + "K" + _digest("af")[:32]],
    "digitalocean-token": ["do" + "p_v1_" + _digest("ag")[:64]],
    "shopify-token": ["shp" + "at_" + _digest("ah")[:32]],
    "telegram-token": ["1234567890" + ":A" + "A" + _mixed("ai", 33)],
    "jwt": [
        ".".join(
            [_segment({"alg": "HS256", "typ": "JWT"}), _segment({"sub": "1234567890"}), _mixed("aj", 43)]
        )
    ],
    "age-secret-key": ["AGE-SECRET-" + "KEY-1" + (_upper("ak", 58))],
}
# rule -> (before, secret, after): the secret goes, what is around it stays
PLACED: dict[str, list[tuple[str, str, str]]] = {
    "slack-webhook": [
        (
            "https://hooks.slack.com/services",
            "/T" + _upper("b1", 9) + "/B" + _upper("b2", 9) + "/" + _mixed("b3", 24),
            " ok",
        )
    ],
    "aws-secret-key": [
        ("aws_secret_access_key = ", _mixed("b4", 20) + "/+" + _mixed("b5", 18), "\nregion = eu"),
        ('"SecretAccessKey": "', _mixed("b6", 40), '", "x": 1'),
    ],
    "discord-token": [("DISCORD_BOT_TOKEN=", "M" + _mixed("b7", 23) + ".Gh1jKl." + _mixed("b8", 38), "\n")],
    "discord-webhook": [("https://discord.com/api/webhooks/", "123456789012345678/" + _mixed("b9", 68), " ")],
    "authorization": [
        ('curl -H "Authorization: Bearer ', _mixed("c1", 40), '" https://api'),
        ("Authorization: Basic ", base64.b64encode(b"user:pass1word").decode(), "\n"),
        ("header Bearer ", _mixed("c2", 30), ", x"),
    ],
    "url-password": [
        ("postgres://app:", "s3cr" + "et!pw", "@db.local:5432/app"),
        ("redis://:", "hunter" + "22", "@cache"),
    ],
    "password": [
        ("DB_PASSWORD=", "hunter" + "2x9!q", "\nNEXT=1"),
        ("password: '", "Tr0ub4" + "dor&3", "'"),
        ("password: ", "Tr0ub4" + "dor-3", "\nuser: me"),
        ('{"client_secret": "', _mixed("c3", 32), '"}'),
        ("API_KEY=", _mixed("c4", 32), "\n"),
    ],
}
SAMPLES = [(rule, ("", token, "")) for rule, tokens in TOKENS.items() for token in tokens] + [
    (rule, parts) for rule, several in PLACED.items() for parts in several
]

LOOK_ALIKES = [
    "commit 4f2a9c0d1e8b7a6f5c4d3e2b1a0f9e8d7c6b5a49",
    str(uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)),
    "data:image/png;base64,"
    + base64.b64encode(b"".join(hashlib.sha512(bytes([i])).digest() for i in range(200))).decode(),
    "sha256:" + _digest("image")[:64],
    "the task-force-on-long-hyphenated-words-2024-edition met",
    "risk-assessment-and-mitigation-plan-for-2025-budget",
    "disk-usage-analyzer-0123456789-build-output-archive.tar.gz",
    "/home/me/src/npm_packages/hf_models/gho_st/sk-learn-tutorials/chapter-01/README.md",
    "pip install sk-learn; asia = 'ASIA'; AKIA; AIza; ya29.; SG.; xoxo-xoxo-love",
    "password = get_password(user)",
    "password=os.environ['DB_PASSWORD_2']",
    "password=settings.database.password2,",
    'password: "${DB_PASSWORD_1}"',
    "password: minimum 8 characters",
    "the password is checked against sha256",
    '{"input_tokens": 12345678, "cache_read_input_tokens": 98765432}',
    '"secret_name": "projects/p/secrets/my-secret-1/versions/2"',
    "api_key=YOUR_API_KEY_HERE_1",
    "Authorization: Bearer $GITHUB_TOKEN",
    "Authorization: Bearer <token>",
    "the bearer of this letter, Authorization: basic",
    "https://example.com:8443/path?mail=me@example.com",
    "git@github.com:user/repo.git ssh://git@host:22/x",
    "http://[::1]:8080/@scope/package",
    "https://user@host/path",
    'if "-----BEGIN RSA PRIV' + 'ATE KEY-----" in text: raise KeyFound(text)',
    "eyJhbGciOiJIUzI1NiJ9 alone is a header; a.eyJ is nothing",
    "toolu_01" + _mixed("tool", 22) + " msg_01" + _mixed("msg", 22) + " req_011" + _mixed("req", 21),
    "10:30:45:AAA and 12345678:AAAA",
    "SKU-1234, SKELETON, SK" + "x" * 32,
    "private notes, <privateer>, </private>",
]


def _payloads(text: str) -> dict[str, bytes]:
    """One text as hooks and transcripts carry it: plain, in a prompt, in tool input and output, JSON in JSON."""
    nested = json.dumps({"file": "a.env", "content": f"x\n{text}\ny"})
    return {
        "plain": f"x\n{text}\ny".encode(),
        "prompt": json.dumps(
            {"hook_event_name": "UserPromptSubmit", "prompt": f"use this:\n{text}\nthanks é"}
        ).encode(),
        "tool input": json.dumps(
            {"tool_name": "Bash", "tool_input": {"command": f"export X='{text}' && run"}}
        ).encode(),
        "tool output": json.dumps(
            {"tool_response": [{"stdout": f"a\tb\n{text}\r\nc"}]}, ensure_ascii=False
        ).encode(),
        "nested": json.dumps({"message": {"content": [{"type": "tool_result", "content": nested}]}}).encode(),
        "twice nested": json.dumps({"text": json.dumps({"text": nested})}).encode(),
    }


@pytest.mark.parametrize(
    ("rule", "parts"), SAMPLES, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(SAMPLES)]
)
def test_a_secret_is_taken_out_wherever_it_stands(rule: str, parts: tuple[str, str, str]) -> None:
    before, secret, after = parts
    for place, payload in _payloads(before + secret + after).items():
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
    for payload in _payloads(text).values():
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


@pytest.mark.parametrize("place", list(_payloads("")))
def test_a_private_key_is_taken_out_whole(place: str) -> None:
    payload = _payloads(PEM)[place]
    result, counts = redact_counted(payload)
    assert counts == {PRIVATE_KEY: 1}
    assert redact(_payloads(PEM)["plain"]) == b"x\n[redacted:private-key]\ny"
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
