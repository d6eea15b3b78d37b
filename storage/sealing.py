"""Posteriors and cluster models as ciphertexts, each bound to its experiment and version so that it cannot be moved."""

import msgspec
import numpy as np

from allocator.clusters import ClusterModel
from allocator.errors import ClusterModelUnreadableError
from allocator.posterior.tables import PosteriorTables
from storage.encryption import DecryptionError, Secrets


def seal_posterior(secrets: Secrets, experiment_id: str, tables: PosteriorTables) -> bytes:
    """Encrypt posterior tables."""
    plain = msgspec.msgpack.encode(
        {
            "segmentation_version": tables.segmentation_version,
            "variants": tables.variants,
            "rows": list(tables.rows.items()),
            "trials": tables.trials.tobytes(),
            "alpha": tables.alpha.tobytes(),
            "beta": tables.beta.tobytes(),
            "best": tables.best.tobytes(),
            "held_back": tables.held_back,
            "redrawn": tables.redrawn.tobytes(),
        }
    )
    return secrets.encrypt(plain, _associated_data("posterior", experiment_id, tables.version))


def open_posterior(secrets: Secrets, experiment_id: str, version: int, ciphertext: bytes) -> PosteriorTables:
    """Decrypt posterior tables. Raises DecryptionError."""
    plain = msgspec.msgpack.decode(secrets.decrypt(ciphertext, _associated_data("posterior", experiment_id, version)))
    shape = (-1, len(plain["variants"]))
    return PosteriorTables(
        version=version,
        segmentation_version=plain["segmentation_version"],
        variants=tuple(plain["variants"]),
        rows=dict(plain["rows"]),
        trials=np.frombuffer(plain["trials"], np.int64),
        alpha=np.frombuffer(plain["alpha"]).reshape(shape),
        beta=np.frombuffer(plain["beta"]).reshape(shape),
        best=np.frombuffer(plain["best"]).reshape(shape),
        held_back=tuple(plain["held_back"]),
        redrawn=np.frombuffer(plain["redrawn"]).reshape(shape),
    )


def seal_model(secrets: Secrets, experiment_id: str, version: int, model: ClusterModel) -> bytes:
    """Encrypt a cluster model."""
    plain = msgspec.msgpack.encode(model.to_plain())
    return secrets.encrypt(plain, _associated_data("clusters", experiment_id, version))


def open_model(secrets: Secrets, experiment_id: str, version: int, ciphertext: bytes | None) -> ClusterModel:
    """Decrypt a cluster model. Raises ClusterModelUnreadableError, also where there is no ciphertext."""
    try:
        plain = secrets.decrypt(ciphertext or b"", _associated_data("clusters", experiment_id, version))
        return ClusterModel.from_plain(msgspec.msgpack.decode(plain))
    except (DecryptionError, ValueError) as error:
        raise ClusterModelUnreadableError(
            f"cluster model {version} of experiment {experiment_id!r} is damaged, or its key is missing",
            experiment_id=experiment_id,
        ) from error


def reseal_posterior(secrets: Secrets, experiment_id: str, version: int, ciphertext: bytes) -> bytes:
    """Encrypt a posterior with the primary key. Raises DecryptionError."""
    return _reseal(secrets, ciphertext, _associated_data("posterior", experiment_id, version))


def reseal_model(secrets: Secrets, experiment_id: str, version: int, ciphertext: bytes) -> bytes:
    """Encrypt a cluster model with the primary key. Raises DecryptionError."""
    return _reseal(secrets, ciphertext, _associated_data("clusters", experiment_id, version))


def _reseal(secrets: Secrets, ciphertext: bytes, associated_data: bytes) -> bytes:
    return secrets.encrypt(secrets.decrypt(ciphertext, associated_data), associated_data)


def _associated_data(kind: str, experiment_id: str, version: int) -> bytes:
    return f"{kind}/{experiment_id}/{version}".encode()
