"""The names of all keys in Redis.

`{sNN}` is the hash tag of shard NN: all keys that a call for one user touches are in one slot of a Redis Cluster.
"""

INDEX = "samplit:index"  # hash: experiment number -> "STATE experiment_id", of all but drafts
API_KEYS = "samplit:keys"  # hash: secret hash -> "key_id scope scope", for servers of the release before alone
SEALED_API_KEYS = "samplit:keys:sealed"  # hash: secret hash -> the same, encrypted: these are believed
BOTS = "samplit:bots"  # hash: "number day" -> requests of bots that Postgres does not know yet
PUBLISHED = "samplit:published"  # exists while everything that Postgres has to publish is published here
INSTALLATION = "samplit:installation"  # fingerprint of the installation that this Redis belongs to
CHANGE_NOTICES = "samplit:notices"  # channel: "KIND experiment_id", or "keys"


def shard_tag(shard: int) -> str:
    """Return the hash tag of a shard."""
    return f"{{s{shard:02d}}}"


def shard_of(user_key: bytes, shards: int) -> int:
    """Return the shard of a user."""
    return int.from_bytes(user_key[:4], "little") % shards


def record_prefix(shard: int) -> str:
    """Return the prefix of the hashes of sticky records; functions.lua adds experiment and bucket, "12:34567".

    With 65,536 hashes for an experiment, each is small enough for the compact listpack encoding. Bucket and field have
    80 bits of the user key: among ten million users of an experiment, two share them with a probability of 4e-11.
    """
    return f"{shard_tag(shard)}:a:"


def dedupe_prefix(shard: int) -> str:
    """Return the prefix of the marks of accepted conversions."""
    return f"{shard_tag(shard)}:c:"


def stream(shard: int) -> str:
    """Return the key of a shard's event stream."""
    return f"{shard_tag(shard)}:events"


def waiting(shard: int) -> str:
    """Return the key of the number of events in a shard's stream: an entry has the events of a batch of calls."""
    return f"{shard_tag(shard)}:waiting"


def epoch(shard: int) -> str:
    """Return the key of a shard's epoch.

    It exists while the records of the shard are complete, and gets another value when they are made anew.
    """
    return f"{shard_tag(shard)}:epoch"


def dead_letters(shard: int) -> str:
    """Return the key of the stream of events that could not be counted."""
    return f"{shard_tag(shard)}:dead"


def experiment(experiment_id: str) -> str:
    """Return the key of an experiment's published hash: fields config and posterior, each with its version."""
    return f"samplit:x:{experiment_id}"


def segments(experiment_number: int, segmentation_version: int) -> str:
    """Return the key of the segment registry of one segmentation."""
    return f"samplit:segments:{experiment_number}:{segmentation_version}"


def segments_of_all() -> str:
    """Return the pattern of the keys of all segment registries."""
    return "samplit:segments:*"
