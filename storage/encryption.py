"""Authenticated encryption of algorithm state, and the installation's secrets in files of mode 0600.

The cipher is Tink's AES-256-GCM. The associated data bind a ciphertext to the object that it belongs to, so that it
cannot be used for another one. Knows nothing of the plaintexts.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import tink

from storage import keyset
from storage.keyset import Keyset

KEYSET_FILE, IDENTITY_FILE = "keyset.json", "identity.key"
_IDENTITY_BYTES = 32


class SecretsUnusableError(Exception):
    """A secret's file cannot be read, or does not hold what it should."""


class DecryptionError(Exception):
    """The ciphertext is damaged, or was made for another object or with another key."""


class IdentityKey(bytes):
    """The key of the hashes of user identifiers. Its repr is empty, so that no log has it."""

    def __repr__(self) -> str:
        """Return nothing of the key."""
        return "IdentityKey()"


@dataclass(frozen=True, repr=False)
class Secrets:
    """The secrets that all servers of an installation share. `identity` keys the hashes of user identifiers."""

    identity: IdentityKey
    _keyset: Keyset

    @property
    def identity_fingerprint(self) -> bytes:
        """Return 16 bytes that differ between identity keys, and from which no key can be computed."""
        return blake2b(b"", digest_size=16, key=self.identity, person=b"samplit.finger").digest()

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Encrypt for the object that `associated_data` names."""
        return self._keyset.encrypt(plaintext, associated_data)

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext. Raises DecryptionError."""
        try:
            return self._keyset.decrypt(ciphertext, associated_data)
        except tink.TinkError as error:
            raise DecryptionError(
                "the encrypted state is damaged, belongs to another object, or its key is missing"
            ) from error

    @property
    def primary_prefix(self) -> bytes:
        """Return how ciphertexts begin that are made now. It changes when the keyset gets another primary key."""
        return self._keyset.primary_prefix

    @property
    def outdated_prefixes(self) -> list[bytes]:
        """Return how ciphertexts begin that were made with a key older than the primary one."""
        return self._keyset.outdated_prefixes

    def is_outdated(self, ciphertext: bytes) -> bool:
        """Return whether a ciphertext was made with a key older than the primary one."""
        return ciphertext[: keyset.PREFIX_BYTES] in self.outdated_prefixes


def load_secrets(folder: Path) -> Secrets:
    """Read the keyset and the identity key, which are created on the first start. Raises SecretsUnusableError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _read_or_create(folder / KEYSET_FILE, keyset.new_keyset)
        keys = Keyset(folder / KEYSET_FILE)
        identity = _read_or_create(folder / IDENTITY_FILE, lambda: secrets.token_hex(_IDENTITY_BYTES))
        identity_key = IdentityKey.fromhex(identity)
    except (OSError, ValueError, tink.TinkError) as error:
        raise SecretsUnusableError(f"the secrets in {folder} are not usable: {error}") from error
    if len(identity_key) != _IDENTITY_BYTES:
        raise SecretsUnusableError(f"{folder / 'identity.key'} must hold {_IDENTITY_BYTES} bytes in hexadecimal")
    return Secrets(identity_key, keys)


def has_secrets(folder: Path) -> bool:
    """Return whether a folder has the secrets of an installation."""
    return all((folder / name).exists() for name in (KEYSET_FILE, IDENTITY_FILE))


def prepare_key(folder: Path) -> None:
    """Add a key to the keyset, which encrypts nothing until `use_prepared_key`. Does nothing if there is one already.

    Raises SecretsUnusableError.
    """
    _change_keyset(folder, keyset.with_new_key)


def use_prepared_key(folder: Path) -> None:
    """Encrypt with the newest key of the keyset from now on. Raises SecretsUnusableError."""
    _change_keyset(folder, keyset.with_newest_as_primary)


def has_prepared_key(folder: Path) -> bool:
    """Return whether the keyset has a key that encrypts nothing yet. Raises SecretsUnusableError."""
    try:
        return keyset.has_unused_key((folder / KEYSET_FILE).read_text())
    except (OSError, ValueError, tink.TinkError) as error:
        raise SecretsUnusableError(f"the keyset in {folder} is not usable: {error}") from error


def write_secret(path: Path, text: str) -> None:
    """Write a file of mode 0600, completely or not at all. A file that is replaced keeps its owner."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if os.geteuid() == 0 and path.exists():
            os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def _change_keyset(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / KEYSET_FILE
    try:
        with keyset.only_writer(folder):
            write_secret(path, change(path.read_text()))
    except (OSError, ValueError, tink.TinkError) as error:
        raise SecretsUnusableError(f"the keyset in {folder} cannot be changed: {error}") from error


def _read_or_create(path: Path, create: Callable[[], str]) -> str:
    if not path.exists():
        write_secret(path, create())
    return path.read_text().strip()
