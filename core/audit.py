"""Signed statements: "this log's chain head was so at that position", and what a later log says of them. Pure.

A statement is one JSON object. Its signature (Ed25519, base64) is over `SIGNED_PREFIX` and the statement's compact JSON in
the order of its fields with an empty `signature`. Whoever keeps it elsewhere can prove later that history was only
appended to: the chain at a position covers every event up to it, and a forgotten payload leaves the chain as it is.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import Head

FORMAT = "session-mgmt-mcp statement"
VERSION = 1
SIGNED_PREFIX = b"session-mgmt-mcp statement\n"
_HEX32 = 32
_HEX64 = 64


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed. Hex in lower case; `signed_at` in µs since the epoch, by the signer's clock."""

    format: str
    version: int
    origin: str  # id of the log whose genesis the chain has; differs from log_id only in a fork
    log_id: str
    position: int  # of the last event that is covered; 0: an empty log
    chain: str
    signed_at: int
    key: str  # SHA-256 of the raw public key
    signature: str = ""


class Part(StrEnum):
    """What of a check failed."""

    SIGNATURE = "signature"
    LOG = "log"  # of another log
    LENGTH = "length"  # the log is shorter than what was signed
    CHAIN = "chain"  # history up to there is another one
    DAMAGE = "damage"  # the log's own bytes do not check, so nothing can be said


class Verdict(NamedTuple):
    """What a log says of a statement. `part` is None where history up to `position` is what was signed."""

    position: int
    signed_at: int
    part: Part | None
    message: str
    appended_since: int = 0

    @property
    def holds(self) -> bool:
        return self.part is None


class Recomputed(NamedTuple):
    """Chains computed from the events themselves. `differs`: where first something was not as the files claim, or ""."""

    chains: Mapping[int, bytes]  # by position, for those where a frame ends
    reached: int  # the last position that was read and checks
    differs: str = ""


def compose(
    origin: str, log_id: str, head: Head, signed_at: int, key: str, sign: Callable[[bytes], bytes]
) -> Statement:
    """A signed statement of this chain head."""
    bare = Statement(
        format=FORMAT,
        version=VERSION,
        origin=origin,
        log_id=log_id,
        position=head.position,
        chain=head.chain.hex(),
        signed_at=signed_at,
        key=key,
    )
    signature = base64.b64encode(sign(signed_bytes(bare))).decode()
    return msgspec.structs.replace(bare, signature=signature)


def encode(statement: Statement) -> bytes:
    """The statement as it is kept: readable JSON, a field a line."""
    return msgspec.json.format(msgspec.json.encode(statement), indent=2) + b"\n"


def signed_bytes(statement: Statement) -> bytes:
    """What the signature covers."""
    return SIGNED_PREFIX + msgspec.json.encode(msgspec.structs.replace(statement, signature=""))


def signature_of(statement: Statement) -> bytes:
    """The raw signature; empty where it is no base64."""
    try:
        return base64.b64decode(statement.signature, validate=True)
    except (binascii.Error, ValueError):
        return b""


def decode(raw: bytes, name: str) -> Statement:
    """The statement in these bytes of the file `name`. Raises InputError that says what is wrong with it."""
    try:
        found = msgspec.json.decode(raw)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{name} is no statement of this program; give a file that `audit sign` made")
        if isinstance(found.get("version"), int) and found["version"] > VERSION:
            raise InputError(
                f"{name} is a statement of version {found['version']}, this program reads up to {VERSION}: upgrade it"
            )
        unknown = sorted(set(found) - set(Statement.__struct_fields__))
        if unknown:  # the signature would not cover it
            raise InputError(
                f"{name} holds {unknown[0]!r}, which no statement has; give the file as it was made"
            )
        statement = msgspec.convert(found, Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{name} is no statement: {error}; give a file that `audit sign` made") from None
    sizes = ((statement.origin, _HEX32), (statement.log_id, _HEX32), (statement.chain, _HEX64))
    if any(not _is_hex(text, size) for text, size in sizes) or statement.position < 0:
        raise InputError(f"{name} is damaged: an id, the chain or the position is malformed")
    return statement


def _is_hex(text: str, size: int) -> bool:
    return len(text) == size and not set(text) - set("0123456789abcdef")


def other_log(statement: Statement, origin: str) -> Verdict | None:
    """The verdict where the statement is of a log this one has no history in common with."""
    if statement.origin == origin:
        return None
    return _fails(
        statement, Part.LOG, f"it was signed for log {statement.origin}; this one continues log {origin}"
    )


def wrong_signature(statement: Statement) -> Verdict:
    return _fails(
        statement, Part.SIGNATURE, "its signature does not fit: it was changed, or another key signed it"
    )


def judge(statement: Statement, log_id: str, found: Recomputed, end: int) -> Verdict:
    """Compare a statement of this log, or of one with the same origin, with the recomputed chains.

    `end`: the log's last position.
    """
    at, signed = statement.position, bytes.fromhex(statement.chain)
    if found.chains.get(at) == signed:
        return Verdict(
            at, statement.signed_at, None, f"history up to position {at} is what was signed", max(0, end - at)
        )
    if at > found.reached and found.differs:
        return _fails(statement, Part.DAMAGE, f"history cannot be read up to position {at}: {found.differs}")
    if at > end:
        text = f"the log ends at position {end}, but {at} was signed: events are missing"
        if statement.log_id != log_id:
            text = f"it was signed in log {statement.log_id} after this one parted from it (this one ends at {end})"
        return _fails(statement, Part.LENGTH, text)
    where = f"; {found.differs}" if found.differs else ""
    if statement.log_id != log_id:
        return _fails(
            statement,
            Part.CHAIN,
            f"history up to position {at} is another one than log {statement.log_id} had; "
            f"it was signed after the two parted, or history was changed{where}",
        )
    return _fails(statement, Part.CHAIN, f"history up to position {at} is not what was signed{where}")


def _fails(statement: Statement, part: Part, message: str) -> Verdict:
    return Verdict(statement.position, statement.signed_at, part, message)
