"""Cluster models as ciphertexts, wherever they are kept: bound to their experiment and version."""

import msgspec

from allocator.clusters import ClusterModel
from allocator.errors import ClusterModelUnreadableError
from storage.encryption import DecryptionError, Secrets


def seal_model(secrets: Secrets, experiment_id: str, version: int, model: ClusterModel) -> bytes:
    """Encrypt a model."""
    return secrets.encrypt(msgspec.msgpack.encode(model.to_plain()), _place(experiment_id, version))


def open_model(secrets: Secrets, experiment_id: str, version: int, ciphertext: bytes | None) -> ClusterModel:
    """The inverse of `seal_model`. Raises ClusterModelUnreadableError, also where there is nothing."""
    try:
        plain = msgspec.msgpack.decode(secrets.decrypt(ciphertext or b"", _place(experiment_id, version)))
        return ClusterModel.from_plain(plain)
    except (DecryptionError, ValueError) as error:
        raise ClusterModelUnreadableError(
            f"cluster model {version} of experiment {experiment_id!r} is damaged, or its key is missing",
            experiment_id=experiment_id,
        ) from error


def _place(experiment_id: str, version: int) -> bytes:
    return f"clusters/{experiment_id}/{version}".encode()
