"""The keyset of an installation: a file of AES-256-GCM keys, of which the primary key encrypts and all of them decrypt.

Keys stand in the order in which they were added. A key is first added, so that every machine can read what it will
encrypt, and then made the primary one. No key is ever taken away, so old ciphertexts and old backups stay readable.
A process that holds a keyset reads its file again once the file has changed: at the next encryption, or when it meets a
ciphertext that it cannot decrypt.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tink
from tink import aead, secret_key_access
from tink.proto import tink_pb2

PREFIX_BYTES = 5  # of a ciphertext: they name the key that made it
_FileState = tuple[int, int, int]


class Keyset:
    """The keys in a file, read again whenever the file has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError or tink.TinkError."""
        self._path = path
        self._state = _file_state(path)
        self._take(_parse(path.read_text()))

    def __repr__(self) -> str:
        """Without the keys."""
        return f"Keyset({self._path})"

    @property
    def primary_prefix(self) -> bytes:
        """Return how ciphertexts begin that are made now."""
        self._read_again_if_changed()
        return self._prefixes[self._primary]

    @property
    def outdated_prefixes(self) -> list[bytes]:
        """Return how ciphertexts begin that were made with a key older than the primary one."""
        self._read_again_if_changed()
        return self._prefixes[: self._primary]

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Encrypt with the primary key."""
        self._read_again_if_changed()
        ciphertext: bytes = self._aead.encrypt(plaintext, associated_data)
        return ciphertext

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext. Raises tink.TinkError."""
        try:
            plaintext: bytes = self._aead.decrypt(ciphertext, associated_data)
        except tink.TinkError:
            if not self._read_again_if_changed():
                raise
            plaintext = self._aead.decrypt(ciphertext, associated_data)
        return plaintext

    def _read_again_if_changed(self) -> bool:
        """Read the file again if it has changed, and return whether it was.

        A file that is missing or damaged changes nothing: the keys that were read before stay in use.
        """
        try:
            state = _file_state(self._path)
            if state == self._state:
                return False
            self._state = state
            self._take(_parse(self._path.read_text()))
        except (OSError, ValueError, tink.TinkError):
            return False
        return True

    def _take(self, keys: tink_pb2.Keyset) -> None:
        ids = [key.key_id for key in keys.key]
        self._aead = _handle(keys).primitive(aead.Aead)
        self._prefixes = [struct.pack(">BI", 1, key_id) for key_id in ids]
        self._primary = ids.index(keys.primary_key_id)


def new_keyset() -> str:
    """Return the text of a keyset with one random key."""
    keys = tink_pb2.Keyset()
    _add_key(keys)
    keys.primary_key_id = keys.key[0].key_id
    return _text(keys)


def with_new_key(text: str) -> str:
    """Return the text of a keyset with one more key, which is not the primary one yet.

    A keyset whose newest key is not the primary one already has such a key: it is returned as it is. Raises
    tink.TinkError.
    """
    keys = _parse(text)
    if not _has_unused_key(keys):
        _add_key(keys)
    return _text(keys)


def with_newest_as_primary(text: str) -> str:
    """Return the text of a keyset whose newest key is the primary one. Raises tink.TinkError."""
    keys = _parse(text)
    keys.primary_key_id = keys.key[-1].key_id
    return _text(keys)


def has_unused_key(text: str) -> bool:
    """Return whether the newest key of a keyset encrypts nothing yet. Raises tink.TinkError."""
    return _has_unused_key(_parse(text))


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the keyset in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _has_unused_key(keys: tink_pb2.Keyset) -> bool:
    return bool(keys.key[-1].key_id != keys.primary_key_id)


def _add_key(keys: tink_pb2.Keyset) -> None:
    aead.register()
    taken = {key.key_id for key in keys.key}
    while True:
        handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
        (key,) = tink_pb2.Keyset.FromString(tink.proto_keyset_format.serialize(handle, secret_key_access.TOKEN)).key
        if key.key_id not in taken:
            keys.key.append(key)
            return


def _parse(text: str) -> tink_pb2.Keyset:
    aead.register()
    handle = tink.json_proto_keyset_format.parse(text.strip(), secret_key_access.TOKEN)
    return tink_pb2.Keyset.FromString(tink.proto_keyset_format.serialize(handle, secret_key_access.TOKEN))


def _handle(keys: tink_pb2.Keyset) -> tink.KeysetHandle:
    return tink.proto_keyset_format.parse(keys.SerializeToString(), secret_key_access.TOKEN)


def _text(keys: tink_pb2.Keyset) -> str:
    text: str = tink.json_proto_keyset_format.serialize(_handle(keys), secret_key_access.TOKEN)
    return text


def _file_state(path: Path) -> _FileState:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
