"""Who gets notices. Their URLs are secrets: rows, errors and logs have names instead."""

import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import quote

from pydantic import SecretStr

from server.settings import OWNER_PLACEHOLDER, Settings

OWNER = "owner"
# What browsers take for an address (HTML, "valid e-mail address"), with a domain of several labels. It has no comma or
# space, so it cannot be several.
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})+")


class Recipients:
    """The URLs of the settings, by name: "1", "2", … in their order, and "owner"."""

    def __init__(self, urls: Sequence[str], owner_url: str) -> None:
        """`owner_url` has a placeholder for an address; empty if owners get none."""
        self._urls = {str(place): url for place, url in enumerate(urls, 1)}
        self._owner_url = owner_url

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(_text(settings.notify_urls).split(), _text(settings.notify_owner_url).strip())

    @property
    def names(self) -> tuple[str, ...]:
        """All that there may be."""
        return (*self._urls, OWNER) if self._owner_url else tuple(self._urls)

    def named_for(self, owner: str) -> tuple[str, ...]:
        """Those who get notices of an experiment with this owner; empty for the installation."""
        return tuple(name for name in self.names if name != OWNER or _ADDRESS.fullmatch(owner))

    def url(self, name: str, owner: str) -> str:
        """Where to send to; empty if the name is not known."""
        if name == OWNER:
            return self._owner_url.replace(OWNER_PLACEHOLDER, quote(owner, safe=""))
        return self._urls.get(name, "")


def describe(name: str, owner: str) -> str:
    """A recipient for people."""
    return f"the owner, {owner}" if name == OWNER else f"URL {name} of SAMPLIT_NOTIFY_URLS"


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
