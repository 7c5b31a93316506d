"""What a secret looks like: data only, so that a hook that meets none of it imports nothing for it.

A rule is `(name, literals, pattern, follows)`. `literals` are in lower case and are looked for in the lowered payload.
Where one stands and what `follows` asks for is there, `pattern` (bytes) is tried at the literal, or, where `follows` is
negative, at the start of the run of token bytes around it. `follows`: that many token bytes (letters, digits, `_-.`)
come next; or, given as bytes, one of these is among the next 96 (`@`: a user and a password come before it). It keeps a hook from importing `re` for the word
"task-force". A group `secret` limits what is replaced; without one it is the whole match.
No pattern may match an unescaped quote, nor one half of an escape: payloads are JSON most of the time.

Shapes follow the issuers' documents and the gitleaks rule set. Left out on purpose: anything that only entropy would
tell from an ordinary identifier (bare Azure, Heroku, Cloudflare, Datadog keys), and publishable keys.
"""

Rule = tuple[str, tuple[bytes, ...], bytes, int | bytes]

# between a name and its value: quotes (escaped at any depth of JSON in JSON), blanks, one separator
_ASSIGNED = rb"""[\\"'`]{0,8}[ \t]{0,4}(?::=|=>|=|:|,)[ \t]{0,4}[\\"'`]{0,8}"""
_SLASH = rb"\\{0,8}/"
_AUTHORIZATION = (
    rb"(?i:authorization)[\\\"'`\s:=,]{1,16}(?i:bearer|token|basic|bot) {1,4}"
    rb"(?P<secret>(?=[A-Za-z+/._~-]*[0-9=])[\w.~+/=-]{8,})"
)
# a quoted value; one right after `=`, as in an environment file; one that ends its line after `: `, as in YAML
_PASSWORD = (
    rb"(?i:password|passwd|secret|api[_-]?key|access_key|(?:auth|access|refresh|api)_token)[A-Za-z0-9_-]{0,24}"
    rb"(?:[\\\"'`]{0,8}[ \t]{0,4}(?::=|=>|=|:)[ \t]{0,4}\\{0,8}[\"'`](?P<quoted>[^\s\"'\\`]{8,200})\\{0,8}[\"'`]"
    rb"|=(?P<plain>[^\s\"'\\`;,()\[&|<>]{8,200}+)(?![(\[])"
    rb"|:[ \t]{1,4}(?P<listed>[^\s\"'\\`;,()\[&|<>]{8,200}+)(?=\\|$|[\r\n\"]))"
)

RULES: tuple[Rule, ...] = (
    ("github-token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"gh[pousr]_[A-Za-z0-9_]{36,}", 36),
    ("github-token", (b"github_pat_",), rb"github_pat_\w{36,}", 36),
    (
        "gitlab-token",
        (b"glpat-", b"glptt-", b"glrt-", b"gldt-", b"glcbt-", b"gloas-", b"glsoat-"),
        rb"gl(?:pat|ptt|rt|dt|cbt|oas|soat)-(?=[\w-]*[0-9])[\w-]{20,}(?:\.[0-9a-z]{2}\.?[0-9a-z]{7})?",
        20,
    ),
    ("slack-token", (b"xox",), rb"xox[abeoprs](?:\.xox[bp])?-(?=[\w-]*[0-9])[\w-]{10,}", 10),
    ("slack-token", (b"xapp-",), rb"xapp-[0-9]-[\w-]{16,}", 16),
    (
        "slack-webhook",
        (b"hooks.slack.com",),
        rb"hooks\.slack\.com"
        + _SLASH
        + rb"(?:services|workflows|triggers)(?P<secret>(?:"
        + _SLASH
        + rb"[\w+-]+){3,})",
        b"/",
    ),
    (
        "aws-access-key-id",
        (b"akia", b"asia"),
        rb"A[KS]IA[A-Z2-7]{16}(?![A-Za-z0-9])",
        16,
    ),
    (
        "aws-secret-key",
        (b"secret_access_key", b"secretaccesskey"),
        rb"(?i:secret_?access_?key)"
        + _ASSIGNED
        + rb"(?P<secret>(?:[A-Za-z0-9+]|"
        + _SLASH
        + rb"){40})(?![A-Za-z0-9+/])",
        b"=:,",
    ),
    ("google-api-key", (b"aiza",), rb"AIza[\w-]{35}", 35),
    ("google-oauth-token", (b"ya29.",), rb"ya29\.[\w-]{20,}", 20),
    ("google-client-secret", (b"gocspx-",), rb"GOCSPX-[\w-]{24,}", 24),
    ("anthropic-key", (b"sk-ant-",), rb"sk-ant-(?=[\w-]*[0-9])[\w-]{24,}", 24),
    (
        "openai-key",
        (b"sk-proj-", b"sk-svcacct-", b"sk-admin-"),
        rb"sk-(?:proj|svcacct|admin)-(?=[\w-]*[0-9])[\w-]{24,}",
        24,
    ),
    (
        "sk-key",
        (b"sk-",),
        rb"sk-(?:[a-z]{2,8}-(?:v1-)?)?(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{32,}",
        20,
    ),
    (
        "stripe-key",
        (b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_"),
        rb"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
        16,
    ),
    ("stripe-key", (b"whsec_",), rb"whsec_[A-Za-z0-9]{24,}", 24),
    ("npm-token", (b"npm_",), rb"npm_[A-Za-z0-9]{36,}", 36),
    ("pypi-token", (b"pypi-agei",), rb"pypi-AgEI[\w-]{50,}", 50),
    ("hugging-face-token", (b"hf_",), rb"hf_(?=[A-Za-z]*[A-Z])[A-Za-z0-9]{30,}", 30),
    ("sendgrid-key", (b"sg.",), rb"SG\.[\w-]{16,32}\.[\w-]{32,}", 16),
    ("twilio-key", tuple(b"sk%x" % digit for digit in range(16)), rb"SK[0-9a-f]{32}(?![A-Za-z0-9])", 31),
    ("digitalocean-token", (b"dop_v1_", b"doo_v1_", b"dor_v1_"), rb"do[opr]_v1_[a-f0-9]{64}", 64),
    (
        "shopify-token",
        (b"shpat_", b"shpca_", b"shppa_", b"shpss_"),
        rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32,}",
        32,
    ),
    ("telegram-token", (b":aa",), rb"[A-Za-z]{0,8}(?P<secret>[0-9]{8,12}:AA[\w-]{32,34})(?![\w-])", -32),
    (
        "discord-token",
        (b"discord",),
        rb"(?i:discord[\w.-]{0,30}"
        + _ASSIGNED
        + rb"(?:bot )?)(?P<secret>[MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{27,38})(?![\w-])",
        b".",
    ),
    (
        "discord-webhook",
        (b"/webhooks",),
        rb"/webhooks" + _SLASH + rb"(?P<secret>[0-9]{17,20}" + _SLASH + rb"[\w-]{60,})",
        b"/",
    ),
    ("jwt", (b".eyj",), rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}(?:\.[\w-]*)?", -10),
    ("age-secret-key", (b"age-secret-key-1",), rb"AGE-SECRET-KEY-1[A-Z0-9]{58}", 50),
    (
        "authorization",
        (b"authorization",),
        _AUTHORIZATION,
        b" ",
    ),
    (
        "authorization",
        (b"bearer ",),
        rb"[Bb]earer {1,4}(?P<secret>(?=[A-Za-z+/._~-]*[0-9])[\w.~+/-]{20,}={0,2})",
        20,
    ),
    (
        "url-password",
        (b"://", b":\\/"),
        rb":(?:" + _SLASH + rb"){2}[^\s\"'\\/@:<>\[\]{}()$|`]{0,64}:"
        rb"(?P<secret>(?!\[redacted)[^\s\"'\\/@<>{}()$?#&,;|*`]{3,128})@[A-Za-z0-9_-]",
        b"@",
    ),
    (
        "password",
        (
            b"password",
            b"passwd",
            b"secret",
            b"api_key",
            b"apikey",
            b"api-key",
            b"access_key",
            b"auth_token",
            b"access_token",
            b"refresh_token",
            b"api_token",
        ),
        _PASSWORD,
        b"=:",
    ),
)

# What the rules that span lines look for (`redact`), in lower case too.
PRIVATE_LITERALS = (b"<private", b"003cprivate")
KEY_LITERALS = (b"private key",)

# One pass over a payload for each of some seventy literals would be most of the cost of an import. So bytes are folded to
# classes (each group to its first byte), chosen by a search such that few and rare anchors in the folded text stand for
# all literals: every literal, folded, holds one. A literal that holds none becomes an anchor itself: slower, never wrong.
FOLDS = (b"-/9acdjx", b".hl", b"03", b"1rt", b"2u", b":py", b"<\\fims", b"_kvz", b"ben", b"gw")
ANCHORS = (
    b":<-",
    b"1-11",
    b"<_",
    b"g.",
    b":-",
    b"__1",
    b".oo_<",
    b"._1o_",
    b"b-1b1",
    b"-<<-",
    b"-_<-",
    b"-o-",
)
