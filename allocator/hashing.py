"""Keyed hashes for user keys, groups and the seeds of draws, each with a domain of its own.

The hash is BLAKE2b (RFC 7693). Its parameter `person` is the domain: a hash in one domain says nothing about a hash in
another.
"""

import base64
import binascii
import struct
from hashlib import blake2b

from allocator.errors import InvalidFieldError

USER_KEY_BYTES = 16
_ACCOUNT = b"default"  # there is one account so far; it is part of the hash because user keys can never change
_TAG_BYTES = 4
_WORDS = struct.Struct("<Qqq").unpack
_NUMBER = struct.Struct("<I").pack
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def user_key(identity: bytes, user_identifier: str) -> bytes:
    """Return the 16-byte key that stands for a user everywhere. `identity` is the secret of the installation."""
    message = _ACCOUNT + b"\0" + user_identifier.encode()
    return blake2b(message, digest_size=USER_KEY_BYTES, key=identity, person=b"samplit.user").digest()


def user_words(salt: bytes, key: bytes) -> tuple[float, int, int]:
    """Return the random values of a user in an experiment.

    The first is a position in [0, 1), which decides the group. The others are two signed 64-bit words, which seed the
    draws together with `version_word`.
    """
    position, first, second = _WORDS(blake2b(key, digest_size=24, key=salt, person=b"samplit.words").digest())
    return position / 2.0**64, first, second


def version_word(posterior_version: int) -> int:
    """Return a signed 64-bit word for a posterior version. XOR it with the first seed word of every user."""
    message = posterior_version.to_bytes(8, "little")
    digest = blake2b(message, digest_size=8, person=b"samplit.version").digest()
    return int.from_bytes(digest, "little", signed=True)


def redraw_seed(salt: bytes, key: bytes, posterior_version: int) -> tuple[float, int, int]:
    """Return the random values that are needed when the arm drawn is held back.

    The first is a position in [0, 1), which decides whether the arm is kept. The others are two signed 64-bit words,
    which seed the draw among the other arms.
    """
    message = key + posterior_version.to_bytes(8, "little")
    digest = blake2b(message, digest_size=24, key=salt, person=b"samplit.redraw").digest()
    position, first, second = _WORDS(digest)
    return position / 2.0**64, first, second


def assignment_id(identity: bytes, experiment_number: int, key: bytes) -> bytes:
    """Return the public id of an assignment: 32 opaque URL-safe ASCII characters, the same in every call."""
    body = _NUMBER(experiment_number) + key
    return binascii.b2a_base64(body + _tag(identity, body), newline=False).translate(_URL_SAFE)


def parse_assignment_id(identity: bytes, text: str) -> tuple[int, bytes]:
    """Return the experiment number and the user key of an assignment id.

    Raise InvalidFieldError if `assignment_id` with this identity cannot have made it.
    """
    try:
        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
    if len(body) != 4 + USER_KEY_BYTES or tag != _tag(identity, body):
        raise InvalidFieldError.of("assignment_id", "must be an assignment_id that AllocateUser returned")
    return struct.unpack("<I", body[:4])[0], body[4:]


def _tag(identity: bytes, body: bytes) -> bytes:
    return blake2b(body, digest_size=_TAG_BYTES, key=identity, person=b"samplit.assign").digest()
