"""Ed25519 keys on disk, by `cryptography`. A key signs statements about the log; it is kept apart from the log."""

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.durable import sha256, sync_folder, write_new

PUBLIC_SUFFIX = ".pub"
_PEM_BYTES_MAX = 16 << 10


class PublicKey(NamedTuple):
    """What checks signatures."""

    key: Ed25519PublicKey
    fingerprint: str  # SHA-256 of the raw key, hex

    def accepts(self, signature: bytes, message: bytes) -> bool:
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey(NamedTuple):
    """A private key and where it lies. `made`: only now."""

    path: Path
    key: Ed25519PrivateKey
    public: PublicKey
    made: bool

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self.key.sign(message)


def default_key_path() -> Path:
    """`$XDG_CONFIG_HOME/session-mgmt-mcp/audit-key.pem` (`~/.config/…`). Raises InputError where there is no home."""
    base = os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "")
    if not os.path.isabs(base):  # a relative one does not count, as its specification says
        base = os.path.expanduser("~/.config")
    if not os.path.isabs(base):
        raise InputError("HOME is not set, so there is no place for the key; name one with --key")
    return Path(os.path.normpath(base)) / "session-mgmt-mcp" / "audit-key.pem"


def public_path(path: Path) -> Path:
    """Where the public half of the key at `path` lies."""
    return path.with_name(path.name.removesuffix(".pem") + PUBLIC_SUFFIX)


def load_or_make(path: Path) -> SigningKey:
    """The key at `path`, made (mode 0600, its public half beside it) where there is none.

    Raises InputError: not an Ed25519 key, encrypted, readable by others, or not to be written.
    """
    made = False
    try:
        if not path.exists():
            made = _make(path)
        key = _private_of(path)
        public = _public(key.public_key())
        if not public_path(path).exists():
            _put(public_path(path), _pem(public.key), 0o644)
    except OSError as error:
        raise InputError(
            f"the key {path} cannot be used: {error.strerror or error}; mend that, or name another with --key"
        ) from error
    return SigningKey(path, key, public, made)


def load_public(path: Path) -> PublicKey:
    """The public key in a PEM file. Raises InputError."""
    try:
        key = serialization.load_pem_public_key(_read(path))
    except OSError as error:
        raise InputError(
            f"the public key {path} cannot be read: {error.strerror}; name the one that `audit sign` "
            "wrote beside its key with --public-key"
        ) from error
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} is no public key in PEM form; give the file that ends in .pub") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} is no Ed25519 key; give the one that `audit sign` made")
    return _public(key)


def _make(path: Path) -> bool:
    """Whether this call made it: of two that try at once one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    raw = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _put(path, raw, 0o600)


def _put(path: Path, raw: bytes, mode: int) -> bool:
    """Write a file whole and durably, unless it is there."""
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    write_new(temporary, raw, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
        with contextlib.suppress(OSError):
            sync_folder(str(path.parent))
    return True


def _private_of(path: Path) -> Ed25519PrivateKey:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"others may read the key {path} (mode {mode:04o}): `chmod 600` it, or use another key"
        )
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise InputError(
            f"the key {path} is encrypted; give one that is not, on a medium you lock away"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} is no private key in PEM form; name another with --key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} is no Ed25519 key; name another with --key")
    return key


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_PEM_BYTES_MAX)


def _public(key: Ed25519PublicKey) -> PublicKey:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PublicKey(key, str(sha256(raw).hexdigest()))


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
