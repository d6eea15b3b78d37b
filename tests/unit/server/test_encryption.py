"""Secrets on disk, and ciphertexts that cannot be read, or used with other associated data."""

import shutil
import stat
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables
from storage.encryption import (
    DecryptionError,
    SecretsUnusableError,
    has_prepared_key,
    load_secrets,
    prepare_key,
    use_prepared_key,
)
from storage.sealing import open_posterior, seal_posterior

TABLES = posterior_tables(3, 1, [0, 1, 4], [Count(2, 4, date(2026, 1, 1), 100, 9), Count(5, 0, date(2026, 1, 1), 9, 9)])


def test_secrets_are_made_once_and_are_ours_alone(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "secrets")
    again = load_secrets(tmp_path / "secrets")
    assert again.identity == first.identity
    assert again.decrypt(first.encrypt(b"text", b"associated data"), b"associated data") == b"text"
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


def test_processes_that_run_take_up_a_new_key_and_read_what_any_key_made(tmp_path: Path) -> None:
    """Each of these Secrets stands for a process that read the keyset before it changed."""
    writer, reader, idle = (load_secrets(tmp_path) for _ in range(3))
    old = writer.encrypt(b"old", b"associated data")
    assert not has_prepared_key(tmp_path)
    prepare_key(tmp_path)
    prepare_key(tmp_path)
    assert has_prepared_key(tmp_path)
    assert writer.encrypt(b"", b"")[:5] == old[:5], "a key that is only prepared encrypts nothing"
    assert not writer.is_outdated(old)
    use_prepared_key(tmp_path)
    assert not has_prepared_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "keyset.json").stat().st_mode) == 0o600
    new = writer.encrypt(b"new", b"associated data")
    assert new[:5] == writer.primary_prefix != old[:5]
    assert [each.decrypt(new, b"associated data") for each in (writer, reader, idle)] == [b"new"] * 3
    assert [each.decrypt(old, b"associated data") for each in (writer, load_secrets(tmp_path))] == [b"old"] * 2
    assert writer.is_outdated(old)
    assert not writer.is_outdated(new)


def test_a_machine_that_has_the_prepared_key_reads_what_the_others_write(tmp_path: Path) -> None:
    """It has not been told yet that the key is the primary one, and does not take the new ciphertexts for old ones."""
    load_secrets(tmp_path / "first")
    prepare_key(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    use_prepared_key(tmp_path / "first")
    first, second = load_secrets(tmp_path / "first"), load_secrets(tmp_path / "second")
    ciphertext = first.encrypt(b"text", b"associated data")
    assert second.decrypt(ciphertext, b"associated data") == b"text"
    assert not second.is_outdated(ciphertext)
    assert first.is_outdated(second.encrypt(b"text", b"associated data"))


@pytest.mark.parametrize("text", [None, "", "{}", "no JSON"])
def test_a_keyset_that_is_damaged_later_leaves_the_keys_in_use(tmp_path: Path, text: str | None) -> None:
    secrets = load_secrets(tmp_path)
    old = secrets.encrypt(b"text", b"associated data")
    path = tmp_path / "keyset.json"
    path.unlink() if text is None else path.write_text(text)
    assert secrets.decrypt(secrets.encrypt(b"text", b"associated data"), b"associated data") == b"text"
    assert secrets.decrypt(old, b"associated data") == b"text"
    with pytest.raises(DecryptionError):
        secrets.decrypt(old, b"other data")
    if text is not None:
        with pytest.raises(SecretsUnusableError, match="keyset"):
            prepare_key(tmp_path)
