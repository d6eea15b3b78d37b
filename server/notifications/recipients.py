"""Recipients of notices. Their URLs are secrets, so rows, errors and logs hold their names instead."""

import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import quote

from pydantic import SecretStr

from server.settings import OWNER_PLACEHOLDER, Settings

OWNER = "owner"
# An e-mail address as browsers accept it (HTML Living Standard, "valid e-mail address"), but with at least one dot in
# the domain. It has neither comma nor space, so one owner cannot name several addresses.
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})+")


class Recipients:
    """The URLs of the settings, by name: "1", "2", … in the order of SAMPLIT_NOTIFY_URLS, and "owner"."""

    def __init__(self, urls: Sequence[str], owner_url: str) -> None:
        """Take apprise URLs. `owner_url` has the placeholder {owner}; it is empty if owners get no notices."""
        self._urls = {str(number): url for number, url in enumerate(urls, 1)}
        self._owner_url = owner_url

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the recipients of the settings."""
        return cls(_text(settings.notify_urls).split(), _text(settings.notify_owner_url).strip())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all recipients."""
        return (*self._urls, OWNER) if self._owner_url else tuple(self._urls)

    def names_for(self, owner: str) -> tuple[str, ...]:
        """Return the names of those who get the notices of an owner's experiment.

        `owner` is among them if it is an e-mail address. Pass "" for notices of the installation.
        """
        return tuple(name for name in self.names if name != OWNER or _ADDRESS.fullmatch(owner))

    def url(self, name: str, owner: str) -> str:
        """Return the URL of a recipient; "" if the name is not known."""
        if name == OWNER:
            return self._owner_url.replace(OWNER_PLACEHOLDER, quote(owner, safe=""))
        return self._urls.get(name, "")


def describe_recipient(name: str, owner: str) -> str:
    """Return words for a recipient that hold no secret."""
    return f"the owner, {owner}" if name == OWNER else f"URL {name} of SAMPLIT_NOTIFY_URLS"


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
