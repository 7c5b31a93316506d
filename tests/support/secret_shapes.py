"""Samples of tokens by their shape, two of each, put together at run time so that no scanner takes this file for a leak.

A shape is its literal parts and its random ones, joined: `h40` 40 hex digits, `a40` letters of both cases and digits, `l40`
small letters and digits, `U40` capitals and digits, `d11` digits, `w40` letters, digits, `-` and `_`, `uuid`, `=text` as
it stands. Sources: the issuers' documentation and the rules of gitleaks (names with `gl`), trufflehog, detect-secrets.
"""

import hashlib
import itertools
import re

_ALPHABETS = {
    "h": "0123456789abcdef",
    "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    "l": "abcdefghijklmnopqrstuvwxyz0123456789",
    "U": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    "d": "0123456789",
    "w": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
}
_RANDOM = re.compile(r"([halUdw])([0-9]{1,3})")

SHAPES: dict[str, list[str]] = {
    "gitlab-token": ["=glf =t- w20", "=glag =ent- w50", "=glim =t- w25", "=GR13 =48941 w20"],
    "aws-access-key-id": ["=AB =IA U16"],
    "aws-bedrock-key": ["=AB =SK a110", "=bedrock- =api-key- a60"],
    "xai-key": ["=xa =i- a80"],
    "groq-key": ["=gs =k_ a52"],
    "perplexity-key": ["=pp =lx- a48"],
    "replicate-token": ["=r =8_ a37"],
    "langsmith-key": ["=ls =v2_ =pt_ h32 =_ h10", "=ls =v2_ =sk_ h32 =_ h10"],
    "nvidia-key": ["=nva =pi- w64"],
    "tavily-key": ["=tv =ly- a32", "=tv =ly-dev- a32"],
    "pinecone-key": ["=pc =sk_ a6 =_ a63"],
    "rubygems-key": ["=ruby =gems_ h48"],
    "nuget-key": ["=oy =2 l43"],
    "clojars-token": ["=CLO =JARS_ l60"],
    "docker-token": ["=dckr =_pat_ w27", "=dckr =_oat_ w32"],
    "artifactory-key": ["=AK =Cp a69", "=cmV =md a59"],
    "brevo-key": ["=xkey =sib- h64 =- a16", "=xsmtp =sib- h64 =- a16"],
    "mailgun-key": ["=ke =y- h32"],
    "resend-key": ["=r =e_ a8 =_ a24"],
    "postman-key": ["=PM =AK- h24 =- h34"],
    "stripe-key": ["=sk =_prod_ a24"],
    "databricks-token": ["=da =pi h32", "=da =pi h32 =-2"],
    "vault-token": ["=hv =s. w95", "=hv =b. w140"],
    "pulumi-token": ["=pu =l- h40"],
    "doppler-token": ["=dp =.pt. a43", "=dp =.st.prd. a43"],
    "planetscale-token": ["=pscale =_tkn_ w43", "=pscale =_pw_ w43"],
    "supabase-key": ["=sb =p_ h40", "=sb =_secret_ w31"],
    "neon-key": ["=na =pi_ l64"],
    "vercel-token": ["=vercel =_blob_rw_ a16 =_ a32"],
    "netlify-token": ["=nf =p_ a36"],
    "heroku-key": ["=HR =KU-AA w58"],
    "fly-token": ["=fo =1_ w43", "=fm =2_ a120"],
    "cloudflare-key": ["=v1 =.0- h24 =- h146"],
    "tailscale-key": ["=ts =key-auth- a17 =- a32", "=ts =key-api- a12 =- a32"],
    "alibaba-key-id": ["=LT =AI a20"],
    "yandex-key": ["=AQ =VN w36", "=y =0_ w58"],
    "grafana-token": ["=gl =c_eyJ a80", "=gl =sa_ a32 =_ h8", "=eyJ =rIjoi a80"],
    "new-relic-key": ["=NR =AK- U27", "=NR =II- w32"],
    "sentry-token": ["=sntr =yu_ h64", "=sntr =ys_eyJ a90 =_ a43"],
    "dynatrace-token": ["=dt0 =c01. U24 =. U64"],
    "posthog-key": ["=ph =x_ a43"],
    "sonar-token": ["=sq =u_ h40", "=sq =p_ h40"],
    "sourcegraph-token": ["=sg =p_ h40", "=sg =p_ h16 =_ h40"],
    "buildkite-token": ["=bk =ua_ h40"],
    "circleci-token": ["=CCI =PAT_ a22 =_ h40"],
    "prefect-key": ["=pn =u_ a36"],
    "readme-key": ["=rd =me_ l70"],
    "infracost-key": ["=ic =o- a32"],
    "octopus-key": ["=AP =I- U26"],
    "harness-key": ["=pa =t. a22 =. a24 =. a20", "=sa =t. a22 =. a24 =. a20"],
    "openshift-token": ["=sha =256~ w43"],
    "linear-key": ["=lin =_api_ a40"],
    "notion-token": ["=nt =n_ d11 a35"],
    "figma-token": ["=fi =gd_ w40"],
    "frameio-token": ["=fi =o-u- w64"],
    "typeform-token": ["=tf =p_ w44"],
    "contentful-token": ["=CF =PAT- w43"],
    "atlassian-token": ["=ATA =TT3 w180", "=ATC =TT3 w180"],
    "bitbucket-password": ["=AT =BB a32"],
    "dropbox-token": ["=s =l. w135", "=s =l.u. w140"],
    "facebook-token": ["=EA =AM a120"],
    "square-token": ["=sq0 =atp- w22", "=sq0 =csp- w43"],
    "plaid-token": ["=access- =sandbox- uuid", "=access- =production- uuid"],
    "shippo-token": ["=shippo =_live_ h40"],
    "easypost-key": ["=EZ =AK a54"],
    "duffel-token": ["=duffel =_test_ w43"],
    "flutterwave-key": ["=FLW =SECK_TEST- h32 =-X", "=FLW =SECK- h32 =-X"],
    "adobe-secret": ["=p8 =e- a32"],
    "onepassword-token": ["=ops =_eyJ a260"],
    "onepassword-key": ["=A =3- U6 =- U11 =- U5 =- U5 =- U5", "=A =3- U6 =- U6 =- U5 =- U5 =- U5 =- U5"],
    "mapbox-token": ["=sk =.eyJ a60 =. a22"],
    "terraform-token": ["a14 =.atlas =v1. a67"],
    "azure-client-secret": ["w3 =8 =Q~ w34", "w3 =7 =Q~ a31"],
}


def _random(alphabet: str, length: int, seed: str) -> str:
    """The same text for the same seed. A letter, a digit and a capital first where there are any, as nearly all have."""
    letters = _ALPHABETS[alphabet]
    stream = itertools.chain.from_iterable(
        hashlib.sha512(f"{seed}{i}".encode()).digest() for i in itertools.count()
    )
    text = "".join(letters[byte % len(letters)] for byte in itertools.islice(stream, length))
    first = {"a": "Kd7", "w": "Kd7", "l": "d7k", "U": "K7D", "h": "a7c", "d": "174"}[alphabet]
    return (first + text)[:length].rstrip("-_") + "x7Qk"[: length - len((first + text)[:length].rstrip("-_"))]


def made(shape: str, seed: str) -> str:
    """A text of this shape."""
    out = []
    for part in shape.split():
        if part.startswith("="):
            out.append(part[1:])
        elif part == "uuid":
            out.append("-".join(_random("h", n, f"{seed}{shape}{n}") for n in (8, 4, 4, 4, 12)))
        else:
            found = _RANDOM.fullmatch(part)
            assert found is not None, part
            out.append(_random(found[1], int(found[2]), seed + shape + str(len(out))))
    return "".join(out)


def truncated(shape: str, seed: str) -> str:
    """A text that begins like this shape and stops short: an example in a manual, a prefix in a program."""
    parts = shape.split()
    longest = max(
        range(len(parts)), key=lambda i: 0 if parts[i][0] == "=" else int("0" + parts[i][1:].strip("uid"))
    )
    head = parts[:longest]
    return made(" ".join(head), seed) + "abc…" if head else "abc…"


def worded(shape: str) -> str:
    """A text that begins like this shape and goes on with words, as file names and identifiers do."""
    head = "".join(part[1:] for part in itertools.takewhile(lambda part: part[0] == "=", shape.split()))
    return f"{head}some-quite-long-name-of_a_thing-that-has-no-numbers.and-goes-on-for-a-while-as-names-do"


PREFIXED = {
    rule: [made(shape, seed) for shape in shapes for seed in ("one", "two")]
    for rule, shapes in SHAPES.items()
}
SHORT = {
    rule: [text for s in shapes for text in (truncated(s, "one"), worded(s))]
    for rule, shapes in SHAPES.items()
}
