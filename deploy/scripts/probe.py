"""Ask a URL and print what it says: `python -I -S probe.py http://127.0.0.1:8000/ready`.

Exit code: 0 where the answer is 200, 1 where it is another one or there is none, 2 for a wrong request. Standard library
only, so that it needs neither curl nor an installed package. A certificate is not checked: this asks the service on the
same machine, by an address its certificate need not name.
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 5
BODY_MAX = 65_536


def ask(url: str) -> tuple[int, str]:
    """The status and the beginning of the body. Raises OSError, http.client.HTTPException, ValueError (no such URL)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(BODY_MAX).decode("utf-8", "replace")
    finally:
        connection.close()


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: probe.py URL", file=sys.stderr)
        return 2
    try:
        status, body = ask(sys.argv[1])
    except ValueError as error:
        print(f"probe.py: {error}", file=sys.stderr)
        return 2
    except (OSError, http.client.HTTPException) as error:
        print(f"probe.py: {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    print(body.rstrip("\n"))
    if status != 200:
        print(f"probe.py: {sys.argv[1]}: {status}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
