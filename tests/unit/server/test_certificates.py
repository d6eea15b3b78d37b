"""The server's certificate, checked before anything starts: what is wrong is said in one line, and names are found."""

from pathlib import Path

import pytest

from server.runtime.certificates import CertificateError, check_certificate
from server.settings import Settings
from tests.support.certificates import Pair, make_authority, make_self_signed, make_signed, openssl

ANY = "0.0.0.0"  # noqa: S104 (nothing listens)


def settings(pair: Pair, host: str = "127.0.0.1", ca: Path | None = None) -> Settings:
    return Settings(host=host, tls_certificate_file=pair.certificate, tls_private_key_file=pair.key, tls_ca_file=ca)


def test_without_tls_there_is_nothing_to_check() -> None:
    assert check_certificate(Settings()) is None


def test_a_certificate_that_signed_itself_is_its_own_authority(tmp_path: Path) -> None:
    pair = make_self_signed(tmp_path, "DNS:samplit.example.com,IP:127.0.0.1")
    trust = check_certificate(settings(pair, ANY))
    assert trust is not None
    assert (trust.ca_file, trust.server_name) == (pair.certificate, None)  # loopback is one of its names


def test_the_name_of_the_certificate_is_expected_where_the_host_is_not_in_it(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    pair = make_signed(tmp_path, authority, "DNS:samplit.example.com")
    trust = check_certificate(settings(pair, ANY, authority.certificate))
    assert trust is not None
    assert (trust.ca_file, trust.server_name) == (authority.certificate, "samplit.example.com")
    named = check_certificate(settings(pair, "samplit.example.com", authority.certificate))
    assert named is not None
    assert named.server_name is None


def test_a_certificate_is_no_authority_for_itself(tmp_path: Path) -> None:
    """Clients could not verify it, so it is not offered to them."""
    pair = make_signed(tmp_path, make_authority(tmp_path), "DNS:samplit.example.com")
    trust = check_certificate(settings(pair))
    assert trust is not None
    assert (trust.ca_file, trust.is_trusted) == (None, False)


def test_what_does_not_belong_together_is_one_line(tmp_path: Path) -> None:
    one, two = make_self_signed(tmp_path, "IP:127.0.0.1", "one"), make_self_signed(tmp_path, "IP:127.0.0.1", "two")
    authority = make_authority(tmp_path)
    locked = tmp_path / "locked.key"
    openssl("rsa", "-aes256", "-passout", "pass:secret", "-in", one.key, "-out", locked)
    text = tmp_path / "text"
    text.write_text("no certificate")
    refused = {
        "does not belong to the certificate": settings(Pair(one.certificate, two.key)),
        "TLS_PRIVATE_KEY_FILE: cannot read": settings(Pair(one.certificate, tmp_path / "missing")),
        "TLS_PRIVATE_KEY_FILE: the key has a password": settings(Pair(one.certificate, locked)),
        "are not a certificate and its key in PEM": settings(Pair(text, one.key)),
        "has no certificate in PEM": settings(one, ca=text),
        "does not verify the certificate": settings(one, ca=authority.certificate),
    }
    for message, wrong in refused.items():
        with pytest.raises(CertificateError, match=message) as error:
            check_certificate(wrong)
        assert str(error.value).startswith("SAMPLIT_TLS_")
        assert "\n" not in str(error.value)
