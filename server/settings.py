"""Every setting, in one frozen object.

Settings come from environment variables (SAMPLIT_…) and are validated at start. Secrets are never printed.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_data_dir
from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "::1", "localhost")
OWNER_PLACEHOLDER = "{owner}"
_PREFIX = "SAMPLIT_"
_NO_SETTINGS = frozenset({"SAMPLIT_ADDRESS", "SAMPLIT_ADMIN_ADDRESS", "SAMPLIT_API_KEY", "SAMPLIT_TEST_DATA"})
# Kubernetes sets these in every container beside a Service that is called samplit.
_OF_KUBERNETES = re.compile(r"SAMPLIT_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
Port = Annotated[int, Field(ge=0, le=65535)]
OptionalPort = Annotated[Port | None, BeforeValidator(lambda value: None if value in ("", "off") else value)]


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return those of the variables that look like settings and are none, in order."""
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | _NO_SETTINGS
    return sorted(
        name for name in names if name.startswith(_PREFIX) and name not in known and not _OF_KUBERNETES.fullmatch(name)
    )


def default_data_directory() -> Path:
    """Return /var/lib/samplit for root, and a folder among the user's data for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/samplit")
    return Path(user_data_dir("samplit"))


class Settings(BaseSettings):
    """The settings of an operator. Durations are in seconds. The descriptions make docs/reference/settings.md."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    data_dir: Path = Field(
        default_factory=default_data_directory,
        description="folder with the secrets of the installation, and with the data of embedded engines",
    )
    postgres_dsn: SecretStr | None = Field(
        default=None,
        description="address of a PostgreSQL to use instead of the embedded one; goes with SAMPLIT_REDIS_URL",
    )
    redis_url: SecretStr | None = Field(
        default=None, description="address of a Redis or Valkey to use instead of the embedded one"
    )
    host: str = Field(default="127.0.0.1", description="address on which both planes listen")
    port: Port = Field(default=50051, description="port of the data plane (samplit.allocation.v1); 0 takes a free port")
    admin_port: Port = Field(
        default=50052, description="port of the control plane (samplit.admin.v1); 0 takes a free port"
    )
    metrics_host: str = Field(default="127.0.0.1", description="address on which the Prometheus endpoint listens")
    metrics_port: OptionalPort = Field(
        default=50053, description="port of the Prometheus endpoint; 0 takes a free port, off turns it off"
    )
    processes: int = Field(default=1, ge=1, le=256, description="how many server processes share the ports")
    tls_certificate_file: Path | None = Field(
        default=None, description="PEM file of the certificate chain; both planes then speak TLS"
    )
    tls_private_key_file: Path | None = Field(default=None, description="PEM file of the private key")
    tls_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed the certificate: the commands of samplit trust it",
    )
    allow_plaintext: bool = Field(default=False, description="allow to listen beyond loopback without TLS")
    appendfsync: Literal["always", "everysec"] = Field(
        default="always",
        description="when the embedded Valkey writes to disk: always before it answers, or once a second",
    )
    allow_volatile_redis: bool = Field(
        default=False,
        description="allow a Redis without an append-only file: a restart of it loses what no worker has stored yet",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=100,
        description="parts of the users in Redis, each with an event stream; fixed at installation; 16 for a cluster",
    )
    redis_timeout: float = Field(
        default=1.0, gt=0, le=60, description="time without an answer after which Redis counts as out of reach"
    )
    publish_interval: float = Field(
        default=0.25, gt=0, le=60, description="least time between two posteriors of an experiment"
    )
    drain_batch: int = Field(
        default=5_000, ge=1, le=50_000, description="how many events a worker stores in one transaction, at most"
    )
    poll_interval: float = Field(
        default=2.0, gt=0, le=60, description="time after which a server finds a change whose change notice it missed"
    )
    connection_age: float = Field(
        default=60.0,
        ge=0.1,
        le=3600,
        description="age at which a connection ends: its calls are finished, and its client makes another",
    )
    transport: Literal["samplit", "grpcio"] = Field(
        default="samplit", description="what serves the data plane: Samplit's own transport, or grpcio"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)] = Field(
        default="info", description="least severity of what is logged"
    )
    shutdown_grace: float = Field(
        default=10.0, ge=0, le=600, description="time that calls in flight have to end when the server stops"
    )
    notify_urls: SecretStr | None = Field(
        default=None,
        description="apprise URLs to which all notices go, separated by spaces or line breaks; for workers",
    )
    notify_owner_url: SecretStr | None = Field(
        default=None,
        description="apprise URL for notices to an experiment's owner, whose e-mail address replaces {owner}",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_private_key_file is None):
            raise ValueError("TLS needs both SAMPLIT_TLS_CERTIFICATE_FILE and SAMPLIT_TLS_PRIVATE_KEY_FILE")
        if (self.postgres_dsn is None) != (self.redis_url is None):
            raise ValueError("set both SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL, or neither")
        if self.host not in LOOPBACK and not self.tls_certificate_file and not self.allow_plaintext:
            raise ValueError(
                f"listening on {self.host} without TLS would send API keys in the clear: set "
                "SAMPLIT_TLS_CERTIFICATE_FILE and SAMPLIT_TLS_PRIVATE_KEY_FILE, or SAMPLIT_ALLOW_PLAINTEXT=true"
            )
        owner_url = self.notify_owner_url
        if owner_url and OWNER_PLACEHOLDER not in owner_url.get_secret_value():
            raise ValueError(f"SAMPLIT_NOTIFY_OWNER_URL must have {OWNER_PLACEHOLDER} where the owner's address goes")
        return self

    @property
    def secrets_directory(self) -> Path:
        """The directory of the installation's keys."""
        return self.data_dir / "secrets"

    @property
    def api_key_file(self) -> Path:
        """The file of the API key that the first start makes and the command line uses."""
        return self.secrets_directory / "api.key"

    @property
    def endpoints_file(self) -> Path:
        """The file in which a running server writes its addresses."""
        return self.data_dir / "server.json"

    @property
    def metrics_directory(self) -> Path:
        """The directory in which the processes of `samplit serve` keep their metrics while it runs."""
        return self.data_dir / "metrics"

    @property
    def stores(self) -> tuple[str, str]:
        """The DSN of PostgreSQL and the URL of Redis. Raises ValueError if one of them is not set."""
        if self.postgres_dsn is None or self.redis_url is None:
            raise ValueError("SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL must be set")
        return self.postgres_dsn.get_secret_value(), self.redis_url.get_secret_value()

    def with_stores(self, postgres_dsn: str, redis_url: str) -> Self:
        """Return the same settings with other stores."""
        return self.model_copy(update={"postgres_dsn": SecretStr(postgres_dsn), "redis_url": SecretStr(redis_url)})

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables of a child process."""
        variables = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                variables[f"{_PREFIX}{name.upper()}"] = text
        return variables
