"""Audit of a data folder: sign its chain head, and check signed ones against it. Needs no views."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.adapters import signing
from session_mgmt_mcp.core import audit
from session_mgmt_mcp.core.audit import Part, Statement, Verdict
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import InputError, LogCorruptError, SessionMgmtError
from session_mgmt_mcp.core.log.durable import sync_folder, write_new
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.core.log.journals import first_chain
from session_mgmt_mcp.core.log.reader import LogReader
from session_mgmt_mcp.core.log.recompute import recompute
from session_mgmt_mcp.core.log.verify import Verified, verify
from session_mgmt_mcp.core.ports import Head

Progress = Callable[[str, int, int], None]
_STATEMENT_BYTES_MAX = 64 << 10


class Signed(NamedTuple):
    """A statement, and the key it was signed with."""

    statement: Statement
    key: signing.SigningKey


class Checked(NamedTuple):
    """A statement's file and what this log says of it."""

    path: Path
    verdict: Verdict


def verify_folder(folder: Path, progress: Progress | None = None) -> Verified:
    """Read every byte of the log in `folder`. Raises LogCorruptError, DataFolderError."""
    return verify(
        str(folder),
        read_format(str(folder)).log_id,
        progress and (lambda at, end: progress("verifying the log", at, end)),
    )


def sign(folder: Path, key_path: Path | None, progress: Progress | None = None) -> Signed:
    """Verify the log, then sign the chain head that was verified.

    Raises InputError for a key that cannot be used or that lies in the data folder, LogCorruptError.
    """
    path = (key_path or signing.default_key_path()).absolute()
    if _is_inside(path, folder):
        raise InputError(
            f"the key {path} would lie in the data folder: whoever can change the log could sign it anew; "
            "name another place with --key"
        )
    form = read_format(str(folder))
    verified = verify_folder(folder, progress)
    key = signing.load_or_make(path)
    head = Head(verified.events, bytes.fromhex(verified.chain))
    statement = audit.compose(form.origin, form.log_id, head, now_us(), key.public.fingerprint, key.sign)
    return Signed(statement, key)


def check(
    folder: Path, paths: Sequence[Path], public_key: Path | None, progress: Progress | None = None
) -> list[Checked]:
    """Hold statements against the log's history, recomputed from its events. In the order given.

    Raises InputError for a file that is no statement or a key that is none.
    """
    form = read_format(str(folder))
    key = signing.load_public(public_key or signing.public_path(signing.default_key_path()))
    statements = [(path, _read(path)) for path in paths]
    verdicts: dict[Path, Verdict] = {}
    for path, statement in statements:
        if not key.accepts(audit.signature_of(statement), audit.signed_bytes(statement)):
            verdicts[path] = _signed_otherwise(statement, key)
        elif (other := audit.other_log(statement, form.origin)) is not None:
            verdicts[path] = other
    wanted = [s.position for path, s in statements if path not in verdicts]
    if wanted:
        found = recompute(
            str(folder),
            first_chain(form.origin),
            wanted,
            progress and (lambda at, end: progress("recomputing the chain", at, end)),
        )
        end = max(found.reached, _end_of(folder, form.origin))
        for path, statement in statements:
            verdicts.setdefault(path, audit.judge(statement, form.log_id, found, end))
    return [Checked(path, _narrowed(verdicts[path], verdicts.values())) for path, _ in statements]


def put(path: Path, raw: bytes) -> None:
    """Keep a statement in a new file, durably; also on a medium without links. Raises InputError where that cannot be."""
    try:
        write_new(str(path), raw, 0o644)
        sync_folder(str(path.absolute().parent))
    except OSError as error:
        if not isinstance(error, FileExistsError):
            path.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}; name another file") from error


def _signed_otherwise(statement: Statement, key: signing.PublicKey) -> Verdict:
    verdict = audit.wrong_signature(statement)
    if statement.key == key.fingerprint:
        return verdict
    return verdict._replace(
        message=f"it names the key {statement.key}, not the one given ({key.fingerprint}): "
        "give its public key with --public-key"
    )


def _narrowed(verdict: Verdict, others: Iterable[Verdict]) -> Verdict:
    """Where earlier statements hold, history was changed after the last of those."""
    if verdict.part is not Part.CHAIN:
        return verdict
    good = max((v.position for v in others if v.holds and v.position < verdict.position), default=0)
    if not good:
        return verdict
    return verdict._replace(message=f"{verdict.message}; up to position {good} it is as it was signed")


def _end_of(folder: Path, origin: str) -> int:
    """The log's last position; 0 where it cannot be told."""
    try:
        reader = LogReader(str(folder), origin)
    except (SessionMgmtError, OSError):
        return 0
    try:
        return reader.head().position
    except (LogCorruptError, OSError):
        return 0
    finally:
        reader.close()


def _read(path: Path) -> Statement:
    try:
        with open(path, "rb") as file:
            raw = file.read(_STATEMENT_BYTES_MAX)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; give a file that `audit sign` made"
        ) from error
    return audit.decode(raw, str(path))


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
