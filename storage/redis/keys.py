"""Names of keys in Redis, in one place.

`{sNN}` is the hash tag of shard NN: all that one user's calls touch is in one slot of a Redis Cluster.
"""

INDEX = "samplit:index"  # hash: experiment number -> "STATE experiment_id", of all but drafts
API_KEYS = "samplit:keys"  # hash: secret hash -> "key_id scope scope"
BOTS = "samplit:bots"  # hash: "number day" -> requests of bots that Postgres does not know yet
PUBLISHED = "samplit:published"  # there while all that Postgres has to publish was published here
NOTICES = "samplit:notices"  # channel: "KIND experiment_id", or "keys"


def shard_tag(shard: int) -> str:
    """The hash tag of a shard."""
    return f"{{s{shard:02d}}}"


def shard_of(user_key: bytes, shards: int) -> int:
    """The shard that a user lives in."""
    return int.from_bytes(user_key[:4], "little") % shards


def record_prefix(shard: int) -> str:
    """Before the experiment and bucket of a sticky record, "12:34567", as functions.lua names them.

    65,536 hashes an experiment keep each small enough for the compact listpack encoding. Bucket and field have 80 bits
    of the user key: among ten million users of an experiment, two share them with a probability of 4e-11.
    """
    return f"{shard_tag(shard)}:a:"


def dedupe_prefix(shard: int) -> str:
    """Before the mark of an accepted event."""
    return f"{shard_tag(shard)}:c:"


def stream(shard: int) -> str:
    """The event stream of a shard."""
    return f"{shard_tag(shard)}:events"


def waiting(shard: int) -> str:
    """How many events the stream of a shard has: an entry has those of a batch of calls."""
    return f"{shard_tag(shard)}:waiting"


def epoch(shard: int) -> str:
    """What names the records of a shard as a whole: there while they are complete, another one once they are new."""
    return f"{shard_tag(shard)}:epoch"


def dead_letters(shard: int) -> str:
    """The stream of events that could not be counted."""
    return f"{shard_tag(shard)}:dead"


def experiment(experiment_id: str) -> str:
    """The published hash of an experiment: fields config and posterior, each with its version."""
    return f"samplit:x:{experiment_id}"


def segments(experiment_number: int, segmentation_version: int) -> str:
    """The segment registry of one segmentation."""
    return f"samplit:segments:{experiment_number}:{segmentation_version}"
