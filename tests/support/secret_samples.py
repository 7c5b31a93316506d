"""Real-looking secrets of every kind, put together at run time so that no scanner takes this file for a leak, and texts
that only look like secrets.
"""

import base64
import hashlib
import json
import uuid

from secret_shapes import PREFIXED, SHORT


def _digest(seed: str) -> str:
    return hashlib.sha512(seed.encode()).hexdigest()


def _mixed(seed: str, length: int) -> str:
    """Letters of both cases and digits, as an issuer's random part has them."""
    text = base64.b64encode(hashlib.sha512(seed.encode()).digest() * 4).decode()
    return "A1z" + "".join(c for c in text if c.isalnum())[: length - 3]


def _upper(seed: str, length: int) -> str:
    return base64.b32encode(hashlib.sha512(seed.encode()).digest()).decode()[:length]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _uuid(seed: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, seed))


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
    "session-mgmt-key": [f"smk_{_digest(seed)[:12]}_{_digest(seed)[:64]}" for seed in ("own", "other")],
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
for _rule, _texts in PREFIXED.items():
    TOKENS[_rule] = TOKENS.get(_rule, []) + _texts
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
        ("//registry.npmjs.org/:_authToken=", _mixed("c5", 36), "\n"),
        ("signing_key: ", _mixed("c6", 40), "\n"),
        ("?access_token=", _mixed("c7", 40), "&page=2"),
    ],
    "variable": [
        ("export GITHUB_TOKEN=", _digest("d1")[:40], " && run"),
        ("DEPLOY_KEY='", _mixed("d2", 40), "'"),
        ("MAILCHIMP_KEY=", _digest("d3")[:32] + "-us6", "\n"),
    ],
    "azure-key": [
        ("AccountName=a;AccountKey=", _mixed("d4", 86) + "==", ";EndpointSuffix=core"),
        ("SharedAccessKeyName=root;SharedAccessKey=", _mixed("d5", 43) + "=", " "),
    ],
    "wireguard-key": [
        ("PrivateKey = ", _mixed("d6", 43) + "=", "\nAddress = 10.0.0.1/24"),
        ("PresharedKey = ", _mixed("d7", 43) + "=", "\n"),
    ],
    "api-header": [
        ("curl -H 'X-Api-Key: ", _mixed("d8", 32), "' https://api"),
        ("PRIVATE-TOKEN: ", _mixed("d9", 20), "\n"),
    ],
    "basic-auth": [
        ("//registry.example.com/:_auth=", _base64("mira:correct-horse-7"), "\nalways-auth=true"),
        ('{"auths": {"ghcr.io": {"auth": "', _base64("mira:" + _mixed("e1", 20)), '"}}}'),
    ],
    "curl-user": [
        ("curl -s -u mira:", "Tr0ub4" + "dor&3", " https://api.example.com"),
        ("curl --user 'mira:", _mixed("e2", 20), "' https://api"),
    ],
    "sshpass": [
        ("sshpass -p ", "hunter" + "22", " ssh host"),
        ("sshpass -p'", "corr3ct" + "horse", "' scp a b:"),
    ],
    "netrc": [
        ("machine api.example.com login mira password ", "hunter" + "22", "\n"),
        ("machine example.org\n  login mira\n  password ", _mixed("e3", 20), "\n"),
    ],
    "putty-key": [
        (
            "PuTTY-User-Key-File-3: ssh-ed25519\nPriv" + "ate-Lines: 2",
            "\n" + _mixed("e4", 64) + "\n" + _mixed("e5", 36),
            "\nPrivate-MAC: 00",
        ),
    ],
    "seed-phrase": [
        ('mnemonic = "', "wheel stone river apple cloud tiger money laugh orange pencil garden window", '"'),
        (
            "seed phrase: ",
            "wheel stone river apple cloud tiger money laugh orange pencil garden window",
            "\n",
        ),
    ],
    "teams-webhook": [
        (
            "https://acme.webhook.office.com/webhookb2",
            "/"
            + _uuid("e6")
            + "@"
            + _uuid("e7")
            + "/IncomingWebhook/"
            + _digest("e8")[:32]
            + "/"
            + _uuid("e9"),
            " ",
        ),
    ],
    "signed-url": [
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=", _digest("f1")[:64], "&x=1"),
        ("https://a.blob.core.windows.net/c?sv=2022-11-02&sig=", _mixed("f2", 43) + "%3D", "&se=2026"),
    ],
}
SAMPLES = [(rule, ("", token, "")) for rule, tokens in TOKENS.items() for token in tokens] + [
    (rule, parts) for rule, several in PLACED.items() for parts in several
]

LOOK_ALIKES = [
    "smk_78f914b1e583 is the id of a key, smk_<id>_<secret> its form",
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
    "docker run -u 1000:1000 -v a:b node:20; git push -u origin HEAD:main; python -u run.py a:b1",
    "CACHE_KEY=linux-node-modules-v1; PRIMARY_KEY=id; public_key_path: /etc/keys/id_ed25519.pub",
    "export GITHUB_TOKEN=$GH_TOKEN; TOKEN=${{ secrets.TOKEN_1 }}; MAX_TOKEN=128000",
    "the login page asks for a password twice; machine learning; login: password reset 1234567",
    "mnemonic: easy to remember, as in a rhyme or a song that people have known for years",
    "auth: oauth2, basic_auth=True, auth=('user', 'x1'), {\"auth\": \"required123456\"}",
    "accountKeyName=RootManageSharedAccessKey; SharedAccessKeyName=listen",
    "PrivateKey = load(path); PresharedKey = None",
    "signature=abc123, sig=inspect.signature(f1), design=12345678",
    "x-api-key: required, X-Api-Key: string (32 characters), private-token: see below",
    "https://acme.webhook.office.com/webhookb2/… and Private-Lines: 14 of a file",
    *[text for texts in SHORT.values() for text in texts],
]


def payloads(text: str) -> dict[str, bytes]:
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
