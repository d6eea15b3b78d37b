"""What is published, as ciphertexts: posteriors, cluster models and configurations.

Each is bound to what it is: its kind, its object and its version. So whoever can write to a store can neither make one
up, nor change it, nor put it where another one belongs.
"""

import msgspec
import numpy as np

from allocator.clusters import ClusterModel
from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment
from allocator.posterior.tables import PosteriorTables
from storage.encryption import DecryptionError, Secrets

_encode_configuration = msgspec.json.Encoder().encode
_decode_configuration = msgspec.json.Decoder(Experiment).decode


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


def seal_configuration(secrets: Secrets, experiment: Experiment) -> bytes:
    """Encrypt the configuration of an experiment."""
    where = _associated_data("configuration", experiment.experiment_id, experiment.revision)
    return secrets.encrypt(_encode_configuration(experiment), where)


def open_configuration(secrets: Secrets, experiment_id: str, revision: int, ciphertext: bytes) -> Experiment:
    """Decrypt a configuration. Raises DecryptionError."""
    plain = secrets.decrypt(ciphertext, _associated_data("configuration", experiment_id, revision))
    return _decode_configuration(plain)


def reseal_configuration(secrets: Secrets, experiment_id: str, revision: int, ciphertext: bytes) -> bytes:
    """Encrypt a configuration with the primary key. Raises DecryptionError."""
    return _reseal(secrets, ciphertext, _associated_data("configuration", experiment_id, revision))


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
