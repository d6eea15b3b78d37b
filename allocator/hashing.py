"""Keyed hashes: users, groups and the seeds of draws, each in a domain of its own.

BLAKE2b (RFC 7693) with its `key` and `person` parameters: one domain says nothing about another.
"""

import base64
import binascii
import struct
from hashlib import blake2b

from allocator.errors import InvalidFieldError

USER_KEY_BYTES = 16
_ACCOUNT = b"default"  # API keys belong to accounts; there is one as yet. Part of the hash, since that never changes.
_TAG_BYTES = 4
_WORDS = struct.Struct("<Qqq").unpack
_NUMBER = struct.Struct("<I").pack
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def user_key(identity: bytes, user_identifier: str) -> bytes:
    """The 16-byte key that stands for a user everywhere. `identity` is the installation's secret."""
    message = _ACCOUNT + b"\0" + user_identifier.encode()
    return blake2b(message, digest_size=USER_KEY_BYTES, key=identity, person=b"samplit.user").digest()


def user_words(salt: bytes, key: bytes) -> tuple[float, int, int]:
    """What is random about a user in an experiment: a position in [0, 1), which decides the group, and two signed
    64-bit words, which with `version_word` seed the draws.
    """
    position, first, second = _WORDS(blake2b(key, digest_size=24, key=salt, person=b"samplit.words").digest())
    return position / 2.0**64, first, second


def version_word(posterior_version: int) -> int:
    """The signed 64-bit word by which the first seed word of every user differs under a posterior version."""
    message = posterior_version.to_bytes(8, "little")
    digest = blake2b(message, digest_size=8, person=b"samplit.version").digest()
    return int.from_bytes(digest, "little", signed=True)


def redraw_seed(salt: bytes, key: bytes, posterior_version: int) -> tuple[float, int, int]:
    """What decides about an arm that is held back: a position in [0, 1), and the seed of the draw among the others."""
    message = key + posterior_version.to_bytes(8, "little")
    digest = blake2b(message, digest_size=24, key=salt, person=b"samplit.redraw").digest()
    position, first, second = _WORDS(digest)
    return position / 2.0**64, first, second


def assignment_id(identity: bytes, experiment_number: int, key: bytes) -> bytes:
    """The public name of an assignment: opaque, 32 URL-safe characters (as ASCII), the same for every call."""
    body = _NUMBER(experiment_number) + key
    return binascii.b2a_base64(body + _tag(identity, body), newline=False).translate(_URL_SAFE)


def parse_assignment_id(identity: bytes, text: str) -> tuple[int, bytes]:
    """The experiment number and user key of an assignment id. Raises InvalidFieldError if it is not one of ours."""
    try:
        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
    if len(body) != 4 + USER_KEY_BYTES or tag != _tag(identity, body):
        raise InvalidFieldError.of("assignment_id", "must be an assignment_id as AllocateUser answered it")
    return struct.unpack("<I", body[:4])[0], body[4:]


def _tag(identity: bytes, body: bytes) -> bytes:
    return blake2b(body, digest_size=_TAG_BYTES, key=identity, person=b"samplit.assign").digest()
