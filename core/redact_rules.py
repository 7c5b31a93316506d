r"""What a secret looks like: data only, so that a hook that meets none of it imports nothing for it.

A rule is `(name, literals, pattern, follows)`. `literals` are in lower case and are looked for in the lowered payload.
Where one stands and what `follows` asks for is there, `pattern` (bytes) is tried at the literal, or, where `follows` is
negative, at the start of the run of token bytes around it. `follows` keeps a hook from importing `re` for the word
"task-force":

- a number: that many token bytes (letters, digits, `_-.`) come next, and unless it is negative no letter or digit
  stands before; 0: nothing is asked for,
- `ASSIGNED`: a separator comes next and a value with a digit; `CAPITALS`: the same, and the literal is in capitals; `LOGIN`: a user, a colon, a password and `@`;
  `USER`: a user, a colon and a password; a word: it is among the next 96 bytes; up to four other bytes: one of them is.

A group `secret` limits what is replaced; without one it is the whole match. `CONTEXT` names what has to stand in the 400
bytes before. No pattern may match an unescaped quote, nor one half of an escape: payloads are JSON most of the time.
Repeats are of single characters and bounded or possessive by what follows, so that work grows with the length only
(tests/privacy counts it).

Shapes follow the issuers' documents and the rules of gitleaks, trufflehog and detect-secrets; samples of each are in
tests/support/secret_shapes.py. Left out on purpose: what only entropy would tell from an ordinary identifier
(`core.entropy` looks for such in importers and servers), and publishable keys.
"""

from session_mgmt_mcp.core.redact_names import LOGIN, NAMED_RULES, Rule

_SLASH = rb"\\{0,8}/"
_BREAK = rb"(?:\\{1,8}[rnt]|[\r\n\t ])"

CONTEXT: dict[str, bytes] = {"curl-user": b"curl", "netrc": b"machine"}

# -- tokens that begin with letters of their issuer ------------------------------------------------------------------
_PREFIXED: tuple[Rule, ...] = (
    ("github-token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"gh[pousr]_[A-Za-z0-9_]{36,}", 36),
    ("github-token", (b"github_pat_",), rb"github_pat_\w{36,}", 36),
    (
        "gitlab-token",
        (
            b"glpat-",
            b"glptt-",
            b"glrt-",
            b"gldt-",
            b"glcbt-",
            b"gloas-",
            b"glsoat-",
            b"glft-",
            b"glimt-",
            b"glagent-",
            b"glffct-",
        ),
        (
            rb"gl(?:pat|ptt|rt|dt|cbt|oas|soat|ft|imt|agent|ffct)-(?=[\w-]{0,60}[0-9])[\w-]{20,}"
            rb"(?:\.[0-9a-z]{2}\.?[0-9a-z]{7})?"
        ),
        20,
    ),
    ("gitlab-token", (b"gr1348941",), rb"GR1348941(?=[\w-]{0,19}[0-9])[\w-]{20}", 20),
    ("slack-token", (b"xox",), rb"xox[abeoprs](?:\.xox[bp])?-(?=[\w-]{0,60}[0-9])[\w-]{16,}", 18),
    ("slack-token", (b"xapp-",), rb"xapp-[0-9]-[\w-]{16,}", 16),
    (
        "aws-access-key-id",
        (b"akia", b"asia", b"abia", b"acca"),
        rb"A(?:[KS]I|BI|CC)A[A-Z2-7]{16}(?![A-Za-z0-9])",
        16,
    ),
    ("aws-bedrock-key", (b"absk",), rb"ABSK[A-Za-z0-9+/]{100,}={0,2}", 12),
    ("aws-bedrock-key", (b"bedrock-api-key-",), rb"bedrock-api-key-[A-Za-z0-9+/]{40,}={0,2}", 24),
    ("google-api-key", (b"aiza",), rb"AIza[\w-]{35}", 35),
    ("google-oauth-token", (b"ya29.",), rb"ya29\.[\w-]{20,}", 20),
    ("google-client-secret", (b"gocspx-",), rb"GOCSPX-[\w-]{24,}", 24),
    ("session-mgmt-key", (b"smk_",), rb"smk_[0-9a-f]{12}_[0-9a-f]{64}", 77),
    ("anthropic-key", (b"sk-ant-",), rb"sk-ant-(?=[\w-]{0,60}[0-9])[\w-]{24,}", 24),
    (
        "openai-key",
        (b"sk-proj-", b"sk-svcacct-", b"sk-admin-"),
        rb"sk-(?:proj|svcacct|admin)-(?=[\w-]{0,60}[0-9])[\w-]{24,}",
        24,
    ),
    (
        "sk-key",  # OpenAI's old ones, OpenRouter, DeepSeek, Langfuse and many that copy them
        (b"sk-",),
        rb"sk-(?:[a-z]{2,8}-(?:v1-)?)?(?=[A-Za-z]{0,60}[0-9])(?=[0-9]{0,60}[A-Za-z])[A-Za-z0-9]{32,}",
        20,
    ),
    ("xai-key", (b"xai-",), rb"xai-[A-Za-z0-9]{70,}", 60),
    ("groq-key", (b"gsk_",), rb"gsk_[A-Za-z0-9]{48,}", 48),
    ("perplexity-key", (b"pplx-",), rb"pplx-[A-Za-z0-9]{40,}", 40),
    ("replicate-token", (b"r8_",), rb"r8_[A-Za-z0-9]{37,}", 37),
    ("langsmith-key", (b"lsv2_",), rb"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}", 40),
    ("nvidia-key", (b"nvapi-",), rb"nvapi-(?=[\w-]{0,60}[0-9])[\w-]{60,}", 60),
    ("tavily-key", (b"tvly-",), rb"tvly-(?:dev-|prod-)?(?=[A-Za-z]{0,60}[0-9])[A-Za-z0-9]{28,}", 28),
    ("pinecone-key", (b"pcsk_",), rb"pcsk_[A-Za-z0-9]{5,8}_[A-Za-z0-9]{50,}", 50),
    ("hugging-face-token", (b"hf_",), rb"hf_(?=[A-Za-z]{0,60}[A-Z])[A-Za-z0-9]{30,}", 30),
    (
        "stripe-key",
        (b"sk_live_", b"sk_test_", b"sk_prod_", b"rk_live_", b"rk_test_", b"rk_prod_"),
        rb"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,}",
        16,
    ),
    ("stripe-key", (b"whsec_",), rb"whsec_[A-Za-z0-9]{24,}", 24),
    ("npm-token", (b"npm_",), rb"npm_[A-Za-z0-9]{36,}", 36),
    ("pypi-token", (b"pypi-agei",), rb"pypi-AgEI[\w-]{50,}", 50),
    ("rubygems-key", (b"rubygems_",), rb"rubygems_[0-9a-f]{48}", 48),
    ("nuget-key", (b"oy2",), rb"oy2[a-z0-9]{43}(?![A-Za-z0-9])", 43),
    ("clojars-token", (b"clojars_",), rb"CLOJARS_[a-z0-9]{60}", 60),
    ("docker-token", (b"dckr_pat_", b"dckr_oat_"), rb"dckr_[po]at_(?=[\w-]{0,60}[0-9])[\w-]{27,}", 27),
    ("artifactory-key", (b"akcp",), rb"AKCp[A-Za-z0-9]{69}", 60),
    ("artifactory-key", (b"cmvmd",), rb"cmVmd[A-Za-z0-9]{59}(?![A-Za-z0-9+/=])", 59),
    ("sendgrid-key", (b"sg.",), rb"SG\.[\w-]{16,32}\.[\w-]{32,}", 16),
    ("brevo-key", (b"xkeysib-", b"xsmtpsib-"), rb"x(?:key|smtp)sib-[0-9a-f]{64}-[A-Za-z0-9]{16}", 64),
    ("mailgun-key", (b"key-",), rb"key-[0-9a-f]{32}(?![A-Za-z0-9])", 32),
    ("resend-key", (b"re_",), rb"re_[A-Za-z0-9]{8}_(?=[A-Za-z]{0,60}[0-9])[A-Za-z0-9]{24}(?!\w)", 33),
    ("postman-key", (b"pmak-",), rb"PMAK-[0-9a-f]{24}-[0-9a-f]{34}", 50),
    ("twilio-key", tuple(b"sk%x" % digit for digit in range(16)), rb"SK[0-9a-f]{32}(?![A-Za-z0-9])", 31),
    ("digitalocean-token", (b"dop_v1_", b"doo_v1_", b"dor_v1_"), rb"do[opr]_v1_[a-f0-9]{64}", 64),
    (
        "shopify-token",
        (b"shpat_", b"shpca_", b"shppa_", b"shpss_"),
        rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32,}",
        32,
    ),
    ("databricks-token", (b"dapi",), rb"dapi[0-9a-f]{32}(?:-[0-9])?(?![A-Za-z0-9])", 32),
    ("vault-token", (b"hvs.", b"hvb.", b"hvr."), rb"hv[sbr]\.(?=[\w-]{0,60}[0-9])[\w-]{24,}", 24),
    ("pulumi-token", (b"pul-",), rb"pul-[0-9a-f]{40}", 40),
    (
        "doppler-token",
        (b"dp.pt.", b"dp.st.", b"dp.ct.", b"dp.sa.", b"dp.scim.", b"dp.audit."),
        rb"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z][\w-]{0,40}\.)?[A-Za-z0-9]{40,44}",
        40,
    ),
    (
        "planetscale-token",
        (b"pscale_tkn_", b"pscale_pw_", b"pscale_oauth_"),
        rb"pscale_(?:tkn|pw|oauth)_(?=[\w.-]{0,60}[0-9])[\w.-]{32,64}",
        32,
    ),
    ("supabase-key", (b"sbp_",), rb"sbp_[0-9a-f]{40}", 40),
    ("supabase-key", (b"sb_secret_",), rb"sb_secret_(?=[\w-]{0,60}[0-9])[\w-]{30,}", 30),
    ("neon-key", (b"napi_",), rb"napi_[a-z0-9]{60,}", 60),
    ("vercel-token", (b"vercel_blob_rw_",), rb"vercel_blob_rw_[A-Za-z0-9]{16}_[A-Za-z0-9]{30,}", 40),
    ("netlify-token", (b"nfp_",), rb"nfp_[A-Za-z0-9]{36,}", 36),
    ("heroku-key", (b"hrku-aa",), rb"HRKU-AA(?=[\w-]{0,60}[0-9])[\w-]{58}", 58),
    ("fly-token", (b"fo1_",), rb"fo1_(?=[\w-]{0,60}[0-9])[\w-]{43}", 43),
    ("fly-token", (b"fm1a_", b"fm1r_", b"fm2_"), rb"fm(?:1[ar]|2)_[A-Za-z0-9+/]{100,}={0,3}", 12),
    ("cloudflare-key", (b"v1.0-",), rb"v1\.0-[0-9a-f]{24}-[0-9a-f]{146}", 100),
    (
        "tailscale-key",
        (b"tskey-",),
        rb"tskey-(?:auth|api|client|scim|webhook)-[A-Za-z0-9]{8,24}-[A-Za-z0-9]{20,}",
        32,
    ),
    ("alibaba-key-id", (b"ltai",), rb"LTAI[A-Za-z0-9]{17,21}(?![A-Za-z0-9])", 17),
    ("yandex-key", (b"aqvn",), rb"AQVN[\w-]{35,38}(?![\w-])", 35),
    ("yandex-key", (b"y0_",), rb"y0_(?=[\w-]{0,60}[0-9])[\w-]{55,}", 55),
    ("grafana-token", (b"glc_",), rb"glc_eyJ[A-Za-z0-9+/]{30,}={0,3}", 24),
    ("grafana-token", (b"glsa_",), rb"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", 41),
    ("grafana-token", (b"eyjrijoi",), rb"eyJrIjoi[A-Za-z0-9]{70,}={0,3}", 60),
    ("new-relic-key", (b"nrak-", b"nrii-"), rb"NR(?:AK|II)-(?=[\w-]{0,60}[0-9])[\w-]{27,32}", 27),
    ("sentry-token", (b"sntryu_",), rb"sntryu_[0-9a-f]{64}", 64),
    ("sentry-token", (b"sntrys_eyj",), rb"sntrys_eyJ[A-Za-z0-9+/]{40,}={0,2}_[A-Za-z0-9+/]{40,}", 24),
    (
        "dynatrace-token",
        (b"dt0c01.", b"dt0s01.", b"dt0s16."),
        rb"dt0[cs][0-9]{2}\.[A-Z0-9]{8,24}\.[A-Z0-9]{64}",
        64,
    ),
    ("posthog-key", (b"phx_",), rb"phx_[A-Za-z0-9]{40,}", 40),
    ("sonar-token", (b"squ_", b"sqp_", b"sqa_"), rb"sq[upa]_[0-9a-f]{40}", 40),
    ("sourcegraph-token", (b"sgp_",), rb"sgp_(?:(?:[0-9a-fA-F]{16}|local)_)?[0-9a-fA-F]{40}", 40),
    ("buildkite-token", (b"bkua_",), rb"bkua_[0-9a-f]{40}", 40),
    ("circleci-token", (b"ccipat_",), rb"CCIPAT_[A-Za-z0-9]{16,24}_[0-9a-f]{40}", 50),
    ("prefect-key", (b"pnu_", b"pnb_"), rb"pn[ub]_[A-Za-z0-9]{36}", 36),
    ("readme-key", (b"rdme_",), rb"rdme_[a-z0-9]{70}", 70),
    ("infracost-key", (b"ico-",), rb"ico-(?=[A-Za-z]{0,60}[0-9])[A-Za-z0-9]{32}(?![\w-])", 32),
    ("octopus-key", (b"api-",), rb"API-(?=[A-Z]{0,40}[0-9])[A-Z0-9]{25,32}(?![\w-])", 25),
    ("harness-key", (b"pat.", b"sat."), rb"[ps]at\.[\w-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}", 68),
    ("openshift-token", (b"sha256~",), rb"sha256~[\w-]{43}(?![\w-])", 43),
    ("linear-key", (b"lin_api_", b"lin_oauth_"), rb"lin_(?:api|oauth)_[A-Za-z0-9]{40,}", 40),
    ("notion-token", (b"ntn_",), rb"ntn_[0-9]{11}[A-Za-z0-9]{35}", 46),
    ("figma-token", (b"figd_", b"figo_"), rb"fig[do]_(?=[\w-]{0,60}[0-9])[\w-]{38,}", 38),
    ("frameio-token", (b"fio-u-",), rb"fio-u-(?=[\w-]{0,60}[0-9])[\w-]{64}", 64),
    ("typeform-token", (b"tfp_",), rb"tfp_(?=[\w.-]{0,60}[0-9])[\w.-]{40,}", 40),
    ("contentful-token", (b"cfpat-",), rb"CFPAT-(?=[\w-]{0,60}[0-9])[\w-]{43}", 43),
    ("atlassian-token", (b"atatt3", b"atctt3"), rb"AT[AC]TT3[\w=-]{150,}", 40),
    ("bitbucket-password", (b"atbb",), rb"ATBB[A-Za-z0-9]{32}(?![A-Za-z0-9])", 32),
    ("dropbox-token", (b"sl.",), rb"sl\.(?:u\.)?(?=[\w-]{0,60}[0-9])[\w-]{120,}", 96),
    ("facebook-token", (b"eaa",), rb"EAA[A-Z](?!EAA)[A-Za-z0-9]{100,}", 90),
    ("square-token", (b"sq0atp-", b"sq0csp-"), rb"sq0(?:atp|csp)-(?=[\w-]{0,60}[0-9])[\w-]{22,}", 22),
    (
        "plaid-token",
        (b"access-sandbox-", b"access-production-", b"access-development-"),
        rb"access-(?:sandbox|production|development)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        36,
    ),
    ("shippo-token", (b"shippo_live_", b"shippo_test_"), rb"shippo_(?:live|test)_[0-9a-f]{40}", 40),
    ("easypost-key", (b"ezak", b"eztk"), rb"EZ[AT]K[A-Za-z0-9]{54}", 54),
    (
        "duffel-token",
        (b"duffel_live_", b"duffel_test_"),
        rb"duffel_(?:live|test)_(?=[\w-]{0,60}[0-9])[\w-]{43}",
        43,
    ),
    ("flutterwave-key", (b"flwseck-", b"flwseck_test-"), rb"FLWSECK(?:_TEST)?-[0-9a-f]{32}-X", 34),
    ("adobe-secret", (b"p8e-",), rb"p8e-(?=[\w-]{0,60}[0-9])[A-Za-z0-9_-]{32}", 32),
    ("onepassword-token", (b"ops_eyj",), rb"ops_eyJ[A-Za-z0-9+/_-]{200,}={0,3}", 12),
    (
        "onepassword-key",
        (b"a3-",),
        rb"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
        36,
    ),
    ("mapbox-token", (b"sk.eyj",), rb"sk\.eyJ(?=[\w-]{0,60}[0-9])[\w-]{40,}\.[\w-]{20,}", 40),
    ("age-secret-key", (b"age-secret-key-1",), rb"AGE-SECRET-KEY-1[A-Z0-9]{58}", 50),
)

# -- tokens told by their middle -------------------------------------------------------------------------------------
_SHAPED: tuple[Rule, ...] = (
    ("telegram-token", (b":aa",), rb"[A-Za-z]{0,8}(?P<secret>[0-9]{8,12}:AA[\w-]{32,34})(?![\w-])", -32),
    ("jwt", (b".eyj",), rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}(?:\.[\w-]*)?", -10),
    ("terraform-token", (b".atlasv1.",), rb"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}", -40),
    (
        "azure-client-secret",
        (b"7q~", b"8q~"),
        rb"[\w-]{0,40}?(?P<secret>[\w.~]{0,3}[78]Q~[\w.~-]{31,34})(?![\w~-])",
        -12,
    ),
)

# -- webhooks and signed addresses: whoever has them may call --------------------------------------------------------
_ADDRESSES: tuple[Rule, ...] = (
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
        "discord-webhook",
        (b"/webhooks",),
        rb"/webhooks" + _SLASH + rb"(?P<secret>[0-9]{17,20}" + _SLASH + rb"[\w-]{60,})",
        b"/",
    ),
    (
        "teams-webhook",
        (b"webhook.office.com",),
        rb"webhook\.office\.com"
        + _SLASH
        + rb"webhookb2(?P<secret>"
        + _SLASH
        + rb"[0-9a-f-]{36}@[0-9a-f-]{36}"
        + _SLASH
        + rb"IncomingWebhook"
        + _SLASH
        + rb"[0-9a-f]{32}"
        + _SLASH
        + rb"[0-9a-f-]{36})",
        b"webhookb2",
    ),
    ("signed-url", (b"x-amz-signature=",), rb"(?i:x-amz-signature=)(?P<secret>[0-9a-f]{64})", 64),
    ("signed-url", (b"x-amz-security-token=",), rb"(?i:x-amz-security-token=)(?P<secret>[\w%/+=.-]{40,})", 8),
    (
        "signed-url",
        (b"sig=",),
        rb"sig=(?P<secret>(?=[A-Za-z%]{0,60}[0-9])[A-Za-z0-9%+/]{40,}(?:%3[Dd]|=))",
        4,
    ),
    (
        "url-password",
        (b"://", b":\\/"),
        rb":(?:" + _SLASH + rb"){2}[^\s\"'\\/@:<>\[\]{}()$|`]{0,64}:"
        rb"(?P<secret>(?!\[redacted)[^\s\"'\\/@<>{}()$?#&,;|*`]{3,128})@[A-Za-z0-9_-]",
        LOGIN,
    ),
)

# -- keys in files of their own --------------------------------------------------------------------------------------
_FILES: tuple[Rule, ...] = (
    (
        "putty-key",
        (b"private-lines:",),
        rb"Private-Lines: {0,2}[0-9]{1,3}(?P<secret>(?:" + _BREAK + rb"{1,4}[A-Za-z0-9+/=]{20,64}){1,80})",
        0,
    ),
    (
        "netrc",
        (b"login ",),
        rb"login {1,4}[^\s\"'\\]{1,64}" + _BREAK + rb"{1,8}password" + _BREAK + rb"{1,4}"
        rb"(?P<secret>(?!\[redacted)[^\s\"'\\]{6,200})",
        b"password",
    ),
    (
        "seed-phrase",
        (b"mnemonic", b"seed phrase", b"seed_phrase", b"recovery phrase"),
        (
            rb"(?i:mnemonic|seed[ _]phrase|recovery phrase)(?:\\{0,8}[\"'`])? {0,2}[:=] {0,2}(?:\\{0,8}[\"'`])?"
            rb"(?P<secret>(?:[a-z]{3,8} ){11}(?:(?:[a-z]{3,8} ){3}){0,4}[a-z]{3,8})(?![a-z])"
        ),
        b":=",
    ),
)

RULES: tuple[Rule, ...] = (*_PREFIXED, *_SHAPED, *_ADDRESSES, *_FILES, *NAMED_RULES)

# What the rules that span lines look for (`redact`), in lower case too.
PRIVATE_LITERALS = (b"<private", b"003cprivate")
KEY_LITERALS = (b"private key",)
