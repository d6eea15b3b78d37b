"""Settings that cannot be are refused before anything starts, in one line that names each variable."""

import pytest

from server.cli.errors import CommandError
from server.cli.settings import load_settings


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SAMPLIT_PORT", "many", "SAMPLIT_PORT: input should be a valid integer"),
        ("SAMPLIT_PORT", "tcp://10.0.0.7:50051", "set enableServiceLinks to false"),
        ("SAMPLIT_ADMIN_PORT", "99999", "SAMPLIT_ADMIN_PORT: input should be less than or equal to 65535"),
        ("SAMPLIT_METRICS_PORT", "none", "SAMPLIT_METRICS_PORT: input should be a valid integer"),
        ("SAMPLIT_PROCESSES", "1.5", "SAMPLIT_PROCESSES: input should be a valid integer"),
        ("SAMPLIT_REDIS_TIMEOUT", "1s", "SAMPLIT_REDIS_TIMEOUT: input should be a valid number"),
        ("SAMPLIT_ALLOW_PLAINTEXT", "perhaps", "SAMPLIT_ALLOW_PLAINTEXT: input should be a valid boolean"),
        ("SAMPLIT_APPENDFSYNC", "never", "SAMPLIT_APPENDFSYNC: input should be 'always' or 'everysec'"),
        ("SAMPLIT_POSTGRES_DNS", "x", "there is no setting SAMPLIT_POSTGRES_DNS: did you mean SAMPLIT_POSTGRES_DSN?"),
        ("SAMPLIT_XYZ", "blue", "there is no setting SAMPLIT_XYZ: unset it"),
        ("SAMPLIT_TLS_PRIVATE_KEY_FILE", "/x", "TLS needs both SAMPLIT_TLS_CERTIFICATE_FILE"),
    ],
)
def test_the_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CommandError) as refused:
        load_settings()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_problems_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLIT_PORT", "x")
    monkeypatch.setenv("SAMPLIT_SHARDS", "y")
    with pytest.raises(CommandError, match=r"SAMPLIT_PORT: .*; SAMPLIT_SHARDS: "):
        load_settings()


def test_variables_of_commands_and_of_kubernetes_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLIT_API_KEY", "SAMPLIT_ADDRESS", "SAMPLIT_SERVICE_HOST", "SAMPLIT_PORT_50051_TCP_ADDR"):
        monkeypatch.setenv(name, "x")
    load_settings()
