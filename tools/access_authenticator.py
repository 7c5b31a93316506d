"""Who a key stands for: the Authenticator over `access.json` and a file with an admin key."""

import hmac
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from session_mgmt_mcp.core.access import AccessError, Principal, Role, tools_of
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.tools.access_keys import FILE, KEY, StoredKey, digest_of, read_keys

FILE_KEY_ID: Final = "file"
"""The id of the key that `admin_key_file` gives."""
GIVEN_CHARS_MIN, GIVEN_CHARS_MAX = 32, 512  # of that key
_NO_DIGEST: Final = "0" * 64
logger = logging.getLogger(__name__)


class KeyAuthenticator:
    """`adapters.http.ports.Authenticator` over `access.json` and, where one is given, a file with one admin key.

    A request costs a stat or two and one SHA-256, whether the key is known or not.
    """

    def __init__(
        self, folder: Path | str, admin_key_file: Path | str | None = None, clock: Callable[[], int] = now_us
    ) -> None:
        """`clock`: µs since the epoch."""
        self._folder = folder
        self._clock = clock
        self._path = f"{folder}/{FILE}"
        self._stamp: object = None
        self._keys: dict[str, StoredKey] = {}
        self._problem = ""
        self._given_file = str(admin_key_file) if admin_key_file else ""
        self._given_stamp: object = None
        self._given = ""  # its SHA-256
        self._given_problem = ""

    def check(self) -> None:
        """Raises SettingsError where nobody could come in as things are."""
        self._refresh()
        if self._given_problem or self._problem:
            raise SettingsError(self._given_problem or self._problem)
        now = self._clock()
        if not self._given and not any(key.state(now) == "valid" for key in self._keys.values()):
            raise SettingsError(
                f"keys are asked for, and {self._path} holds none that opens anything; "
                "`session-mgmt-mcp keys create NAME --role admin --all-projects` makes one"
            )

    def authenticate(self, authorization: str | None, address: str) -> Principal:
        """The principal of an Authorization header's value. Raises AccessError."""
        shown = _shown(authorization)
        self._refresh()
        parts = KEY.fullmatch(shown)
        key = self._keys.get(parts[1]) if parts else None
        digest = digest_of(parts[2] if parts else shown)
        right = hmac.compare_digest(digest, key.sha256 if key is not None else _NO_DIGEST)
        given = hmac.compare_digest(digest_of(shown), self._given or _NO_DIGEST)
        if given and self._given:
            return Principal("admin", Role.ADMIN, FILE_KEY_ID, tools_of(Role.ADMIN), None)
        if self._problem:
            raise AccessError(
                "the service cannot read its keys; whoever runs it finds the reason in its log",
                status=503,
                reason="settings",
            )
        if key is None or not right:
            raise AccessError("this key is not known here; ask for one", status=401, reason="unknown_key")
        state = key.state(self._clock())
        if state != "valid":
            raise AccessError(f"this key is {state}; ask for a new one", status=401, reason=state)
        return key.principal()

    def _refresh(self) -> None:
        now: object = _stamp(self._path)
        if now != self._stamp:
            before, self._problem = self._problem, ""
            try:
                self._keys = {key.id: key for key in read_keys(self._folder)}
            except SettingsError as error:
                self._keys, self._problem, now = {}, str(error), _unless_passing(error, now)
            _say(self._problem, before)
            self._stamp = now
        if self._given_file and (now := _stamp(self._given_file)) != self._given_stamp:
            before, self._given_problem = self._given_problem, ""
            try:
                self._given = digest_of(given_key(self._given_file))
            except SettingsError as error:
                self._given, self._given_problem, now = "", str(error), _unless_passing(error, now)
            _say(self._given_problem, before)
            self._given_stamp = now


def given_key(path: Path | str) -> str:
    """The key a file gives, white space around it left out. Raises SettingsError."""
    try:
        with open(path, "rb") as file:
            text = file.read(GIVEN_CHARS_MAX + 2).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(
            f"the admin key file {path} cannot be read: {why}; mend it or unset it"
        ) from error
    if not GIVEN_CHARS_MIN <= len(text) <= GIVEN_CHARS_MAX or not text.isascii() or len(text.split()) != 1:
        raise SettingsError(
            f"the admin key file {path} holds no key: put one word of {GIVEN_CHARS_MIN} to {GIVEN_CHARS_MAX} random "
            "characters there, such as `openssl rand -hex 32` prints"
        )
    return text


def _shown(authorization: str | None) -> str:
    if not authorization:
        raise AccessError(
            "a key is needed: send the header `Authorization: Bearer smk_…`", status=401, reason="no_key"
        )
    scheme, _, shown = authorization.partition(" ")
    shown = shown.strip()
    if scheme.lower() != "bearer" or not shown or len(shown) > GIVEN_CHARS_MAX:
        raise AccessError(
            "the Authorization header holds no key: send `Authorization: Bearer smk_…`",
            status=401,
            reason="no_key",
        )
    return shown


def _unless_passing(error: SettingsError, stamp: object) -> object:
    """The stamp to remember: None where the system failed (no file descriptor left), so that it is tried again although
    the file stays as it is.
    """
    return None if isinstance(error.__cause__, OSError) else stamp


def _say(problem: str, before: str) -> None:
    """Once, not with every request that is refused for it."""
    if problem and problem != before:
        logger.error("%s", problem)


def _stamp(path: str) -> tuple[int, ...]:
    """Changes whenever the file was replaced or written; zeros where it is missing."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
