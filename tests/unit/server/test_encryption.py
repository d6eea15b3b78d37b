"""Secrets on disk, and ciphertexts that cannot be read or moved."""

import stat
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables
from storage.encryption import DecryptionError, SecretsUnusableError, load_secrets
from storage.sealing import open_posterior, seal_posterior

TABLES = posterior_tables(3, 1, [0, 1, 4], [Count(2, 4, date(2026, 1, 1), 100, 9), Count(5, 0, date(2026, 1, 1), 9, 9)])


def test_secrets_are_made_once_and_are_ours_alone(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "secrets")
    again = load_secrets(tmp_path / "secrets")
    assert again.identity == first.identity
    assert again.decrypt(first.encrypt(b"text", b"place"), b"place") == b"text"
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()} == {0o600}
    assert load_secrets(tmp_path / "others").identity_fingerprint != first.identity_fingerprint


@pytest.mark.parametrize(("name", "text"), [("keyset.json", "{}"), ("identity.key", "zz"), ("identity.key", "00")])
def test_damaged_secrets_are_named(tmp_path: Path, name: str, text: str) -> None:
    load_secrets(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(SecretsUnusableError, match=str(tmp_path)):
        load_secrets(tmp_path)


def test_a_posterior_is_sealed_for_its_experiment_and_version(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    sealed = seal_posterior(secrets, "cta", TABLES)
    assert TABLES.alpha[0].tobytes() not in sealed
    opened = open_posterior(secrets, "cta", 3, sealed)
    for name in ("alpha", "beta", "best", "trials"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(TABLES, name))
    for name in ("version", "segmentation_version", "variants", "rows", "arm_of"):
        assert getattr(opened, name) == getattr(TABLES, name)
    for experiment_id, version, ciphertext in (
        ("other", 3, sealed),
        ("cta", 4, sealed),
        ("cta", 3, sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(DecryptionError):
            open_posterior(secrets, experiment_id, version, ciphertext)
