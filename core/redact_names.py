r"""Secrets told by the name they are given to, or by what they are handed to: `redact_rules` in another file.

`is_secret` judges the values: not every `password=` is followed by one.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

Rule = tuple[str, tuple[bytes, ...], bytes, int | bytes]

# see `redact_rules`
ASSIGNED, CAPITALS, LOGIN, USER = b"=:", b"A=", b"@", b"u:"

_SLASH = rb"\\{0,8}/"
# between a name and its value: quotes (escaped at any depth of JSON in JSON), blanks, one separator
_QUOTE = rb"(?:\\{0,8}[\"'`])"  # never a backslash alone: it may be half of an escape
_ASSIGNED = _QUOTE + rb"{0,2}[ \t]{0,4}(?::=|=>|=|:|,)[ \t]{0,4}" + _QUOTE + rb"{0,2}"
_AUTHORIZATION = (
    rb"(?i:authorization)[\\\"'`\s:=,]{1,16}(?i:bearer|token|basic|bot|ssws|api-?key|splunk|geniekey) {1,4}"
    rb"(?P<secret>(?=[A-Za-z+/._~-]{0,90}[0-9=])[\w.~+/=-]{8,})"
)
# a quoted value; one right after `=`, as in an environment file; one that ends its line after `: `, as in YAML
_VALUE = (
    rb"(?:(?:\\{0,8}[\"'`]){0,2}[ \t]{0,4}(?::=|=>|=|:)[ \t]{0,4}\\{0,8}[\"'`](?P<quoted>[^\s\"'\\`]{8,200})\\{0,8}[\"'`]"
    rb"|=(?P<plain>[^\s\"'\\`;,()\[&|<>]{8,200}+)(?![(\[])"
    rb"|:[ \t]{1,4}(?P<listed>[^\s\"'\\`;,()\[&|<>]{8,200}+)(?=\\|$|[\r\n\"]))"
)
_PASSWORD = (
    rb"(?i:password|passwd|passphrase|secret|api[_-]?key|access_?key|(?:signing|encryption|private|master|account|license)_key"
    rb"|(?:auth|access|refresh|api|bot|session|deploy|personal)_?token)[A-Za-z0-9_-]{0,24}" + _VALUE
)
# in capitals, as in an environment
_VARIABLE = rb"(?:TOKEN|KEY|PASS|PWD|PASSWD|CREDENTIALS?|PASSPHRASE|SALT)" + _VALUE

NAMED_RULES: tuple[Rule, ...] = (
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
    (
        "azure-key",
        (b"accountkey", b"sharedaccesskey"),
        rb"(?i:account|shared_?access)(?i:key)"
        + _ASSIGNED
        + rb"(?P<secret>(?:[A-Za-z0-9+]|"
        + _SLASH
        + rb"){43,86}={1,2})",
        b"=:,",
    ),
    (
        "wireguard-key",
        (b"privatekey", b"presharedkey"),
        rb"(?:Private|Preshared)Key"
        + _ASSIGNED
        + rb"(?P<secret>(?:[A-Za-z0-9+]|"
        + _SLASH
        + rb"){43}=)(?![A-Za-z0-9+/=])",
        b"=:",
    ),
    (
        "discord-token",
        (b"discord",),
        rb"(?i:discord[\w.-]{0,30}"
        + _ASSIGNED
        + rb"(?:bot )?)(?P<secret>[MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{27,38})(?![\w-])",
        b".",
    ),
    ("authorization", (b"authorization",), _AUTHORIZATION, b" "),
    (
        "authorization",
        (b"bearer ",),
        rb"[Bb]earer {1,4}(?P<secret>(?=[A-Za-z+/._~-]{0,60}[0-9])[\w.~+/-]{20,}={0,2})",
        20,
    ),
    (
        "api-header",
        (b"-key: ", b"-token: ", b"apikey: "),
        (
            rb"(?i:[\w-]{0,40}(?:api-?key|(?:auth|access|private|job|deploy|vault|session)-token|subscription-key)): {1,4}"
            rb"(?P<secret>(?=[A-Za-z+/_.~-]{0,60}[0-9])[\w.~+/-]{16,}={0,2})"
        ),
        -16,
    ),
    (
        "basic-auth",  # of .npmrc and of Docker's config.json; base64 of user:password
        (b"_auth", b'auth"', b"auth\\"),
        rb"_?auth(?:=|\\{0,8}\"[ \t]{0,4}:[ \t]{0,4}\\{0,8}\")(?P<secret>[A-Za-z0-9+/]{12,}={0,2})",
        ASSIGNED,
    ),
    (
        "curl-user",
        (b" -u ", b"--user "),
        (
            rb"(?: -u|--user) {1,4}(?:\\{0,8}[\"'`])?(?:[^\s:\"'\\`/]{1,80}):"
            rb"(?P<secret>(?=[^\s\"'\\`]{0,60}[A-Za-z])(?!\[redacted|//)[^\s\"'\\`$]{4,200})"
        ),
        USER,
    ),
    (
        "sshpass",
        (b"sshpass -p",),
        rb"sshpass -p {0,4}(?:\\{0,8}[\"'`])?(?P<secret>(?!\[redacted)[^\s\"'\\`$]{4,200})",
        0,
    ),
    (
        "password",
        tuple(
            b"password passwd passphrase secret api_key apikey api-key access_key accesskey signing_key encryption_key "
            b"private_key master_key account_key license_key auth_token authtoken access_token accesstoken refresh_token "
            b"refreshtoken api_token apitoken bot_token session_token sessiontoken deploy_token personal_token".split()
        ),
        _PASSWORD,
        ASSIGNED,
    ),
    (
        "variable",
        (b"_token", b"_key", b"_pass", b"_pwd", b"_credential", b"_salt"),
        rb"_" + _VARIABLE,
        CAPITALS,
    ),
)

_DIGITS = b"0123456789"
TOKEN_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
# no secrets, though a name says so: values after digits and punctuation are dropped
_PLACEHOLDERS = frozenset(
    b"abc abcd abcdef changeme dummy example examplekey fake foo foobar mypassword mysecret null none pass passwd password "
    b"placeholder redacted secret secretkey test testing testkey testpassword testsecret todo undefined user username x xx "
    b"xxx xxxx yourapikey yourapikeyhere yourkey yourkeyhere yourpassword yoursecret yoursecrethere yourtoken".split()
)
_STARTS = (b"[redacted", b"$", b"%", b"{", b"<", b"@", b"[ignored")


def is_secret(name: str, match: "re.Match[bytes]") -> bool:
    """Whether what a rule of this name matched is a secret written out, not a name, a call, a variable, a placeholder."""
    if name in ("password", "variable"):
        return _is_literal(name, match)
    if name == "basic-auth":
        return _is_login(match["secret"])
    return True


def _is_literal(name: str, match: "re.Match[bytes]") -> bool:
    kind = str(match.lastgroup)
    value = match[kind]
    digits = len(value) - len(value.translate(None, _DIGITS))
    letters = bytes(byte for byte in value if chr(byte).isascii() and chr(byte).isalpha())
    if not digits or not letters or value.startswith(_STARTS):
        return False
    if letters.lower() in _PLACEHOLDERS or b"${" in value or b"{{" in value or b"://" in value:
        return False
    if name == "password" and match[0][:5].lower() == b"passw":
        # `password=user_password1`, `password=config.db2`: a name, where no quote says otherwise
        return (
            kind == "quoted"
            or digits > 1
            or not value.rstrip(_DIGITS).replace(b"_", b"").replace(b".", b"").islower()
        )
    return len(value) >= 16 and digits >= 3 and not value.translate(None, TOKEN_BYTES + b"+/=.")


def _is_login(encoded: bytes) -> bool:
    """Whether base64 says user:password."""
    import binascii

    try:
        text = binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error:
        return False
    user, colon, password = text.partition(b":")
    return bool(user and colon and len(password) > 2) and text.isascii() and text.decode().isprintable()
