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
from tink import aead, secret_key_access

_IDENTITY_BYTES = 32


class SecretsUnusableError(Exception):
    """A secret's file cannot be read, or does not hold what it should."""


class DecryptionError(Exception):
    """The ciphertext is damaged, or was made for another object or with another key."""


@dataclass(frozen=True, repr=False)
class Secrets:
    """The secrets that all servers of an installation share. `identity` keys the hashes of user identifiers."""

    identity: bytes
    _aead: aead.Aead

    @property
    def identity_fingerprint(self) -> bytes:
        """Return 16 bytes that differ between identity keys, and from which no key can be computed."""
        return blake2b(b"", digest_size=16, key=self.identity, person=b"samplit.finger").digest()

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Encrypt for the object that `associated_data` names."""
        sealed: bytes = self._aead.encrypt(plaintext, associated_data)
        return sealed

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext. Raises DecryptionError."""
        try:
            plaintext: bytes = self._aead.decrypt(ciphertext, associated_data)
        except tink.TinkError as error:
            raise DecryptionError(
                "the encrypted state is damaged, belongs to another object, or its key is missing"
            ) from error
        return plaintext


def load_secrets(folder: Path) -> Secrets:
    """Read the keyset and the identity key, which are created on the first start. Raises SecretsUnusableError."""
    aead.register()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keyset = _read_or_create(folder / "keyset.json", _new_keyset)
        identity = _read_or_create(folder / "identity.key", lambda: secrets.token_hex(_IDENTITY_BYTES))
        handle = tink.json_proto_keyset_format.parse(keyset, secret_key_access.TOKEN)
        identity_key = bytes.fromhex(identity)
    except (OSError, ValueError, tink.TinkError) as error:
        raise SecretsUnusableError(f"the secrets in {folder} are not usable: {error}") from error
    if len(identity_key) != _IDENTITY_BYTES:
        raise SecretsUnusableError(f"{folder / 'identity.key'} must hold {_IDENTITY_BYTES} bytes in hexadecimal")
    return Secrets(identity_key, handle.primitive(aead.Aead))


def write_secret(path: Path, text: str) -> None:
    """Write a file of mode 0600, completely or not at all."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def _new_keyset() -> str:
    handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    text: str = tink.json_proto_keyset_format.serialize(handle, secret_key_access.TOKEN)
    return text


def _read_or_create(path: Path, create: Callable[[], str]) -> str:
    if not path.exists():
        write_secret(path, create())
    return path.read_text().strip()
