"""Where a visitor came from: as the campaign says, else as a click id says, else as the referrer says.

The media are search, social, email, chatbot, paid_search, paid_social, paid, referral and direct; campaigns may use
others. The table of sites is in `allocator.context.sites`.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from allocator.context import sites
from allocator.context.canonical import MAX_VALUE, UNKNOWN, canonical

_REFERRAL = "referral"
_MAX_HOST = 253
_MAX_READ = 1_024  # characters of a referrer, whose host is at the beginning
_MOST_LABELS = 10  # at the end of a host; no known site has more
_CACHED = 8_192
_URL = re.compile(r"\s{0,16}(https?|android-app)://([^/?#\\\s]{1,320})(?:[/?#\\\s]|\Z)", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_.\-\u0080-\U0010ffff]+")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_IPV6 = re.compile(r"\[([0-9a-f]*:[0-9a-f:]+)\](?::[0-9]*)?")
_ADVERTISED = re.compile(r"(.+?)[\s_\-]*ads")
_CUSTOM = re.compile(f"(?P<search>{sites.SEARCH_LABEL})|(?P<email>{sites.MAIL_LABEL})|(?P<paid>{sites.PAID_LABEL})")
_FRONT = re.compile(sites.FRONT_LABEL)
_SEPARATORS = re.compile(r"[\s_\-+.]+")


@dataclass(frozen=True, slots=True)
class Traffic:
    """The source and the medium of a visit, both canonical."""

    source: str
    medium: str


_DIRECT = Traffic("direct", "direct")
CLICK_IDS: Mapping[str, Traffic] = MappingProxyType(
    {name: Traffic(source, medium) for source, medium, names in sites.CLICK_IDS for name in names.split()}
)
"""By the lower-case name of the parameter. If several are present, the first in this order counts."""


def traffic(utm_source: str, utm_medium: str, click_ids: Collection[str], referrer: str) -> Traffic:
    """Return the source and the medium of a visit. Any input is accepted.

    The result stays the same if it is given back as the campaign.

    Args:
        utm_source, utm_medium: what the campaign says; it has precedence.
        click_ids: the names of query parameters that advertisers add to the landing page.
        referrer: a URL; any other text counts as absent.
    """
    source, medium = _given(utm_source), _given(utm_medium)
    if source and medium:
        came = _named(source)
        return Traffic(came.source, _canonical_medium(medium, came.medium))
    clicked = _clicked(click_ids) if click_ids else None
    if source:
        came = _named(source)
        return Traffic(came.source, clicked.medium) if clicked and _click_id_decides(clicked, came) else came
    came = _without_campaign(clicked, _referred(referrer) if referrer else None)
    if not medium:
        return came
    source = UNKNOWN if came is _DIRECT else came.source
    return Traffic(source, _canonical_medium(medium, _named(source).medium))


def _given(value: str) -> str:
    value = canonical(value) if value else ""
    return "" if value in sites.PLACEHOLDERS else value


def _click_id_decides(clicked: Traffic, came: Traffic) -> bool:
    return came.medium == UNKNOWN or clicked.source == came.source


def _without_campaign(clicked: Traffic | None, came: Traffic | None) -> Traffic:
    """Return what a click id says, else what the referrer says.

    fbclid is the same on all sites of Meta, so the referrer says which site it was.
    """
    if clicked and clicked.source == "facebook" and came and came.source in sites.META:
        return Traffic(came.source, clicked.medium)
    return clicked or came or _DIRECT


def _clicked(click_ids: Collection[str]) -> Traffic | None:
    present = {name[:MAX_VALUE].lower() for name in click_ids}
    return next((came for name, came in CLICK_IDS.items() if name in present), None)


def _canonical_medium(given: str, known: str) -> str:
    """Return the canonical medium. `known` is the medium of the source.

    It is needed because campaigns use the same words for paid clicks on social networks and on search engines.
    """
    word = _SEPARATORS.sub("", given)
    if word in sites.PER_CLICK:
        return "paid_social" if known == "social" else "paid_search"
    if word == "organic":
        return known if known in ("search", "social") else word
    return _MEDIA.get(word, given)


@lru_cache(_CACHED)
def _named(source: str) -> Traffic:
    """Return the source and medium of a campaign's source, which is a name, a host or a URL."""
    if came := _NAMES.get(source):
        return came
    if "://" in source:
        came = _referred(source)
    elif "." in source:
        came = _known_site(source)
    elif (match := _ADVERTISED.fullmatch(source)) and (site := _NAMES.get(match[1])):
        came = Traffic(site.source, f"paid_{site.medium}" if site.medium in ("search", "social") else "paid")
    return came or Traffic(source, UNKNOWN)


def _referred(referrer: str) -> Traffic | None:
    match = _URL.match(referrer[:_MAX_READ])
    return _site(match[2], match[1][0] in "hH") if match else None


@lru_cache(_CACHED)
def _site(authority: str, web: bool) -> Traffic | None:
    """Return the source and medium of an authority: a host, with user and port if given.

    web: whether it is a host; otherwise it is the package of an app, which is a host backwards.
    """
    if address := _IPV6.fullmatch(authority.rpartition("@")[2].lower()):
        return Traffic(canonical(address[1]), _REFERRAL)
    host = _host(authority)
    if not host:
        return None
    if not web:
        host = ".".join(reversed(host.split(".")))
    return _known_site(host) or _unlisted(host)


def _host(authority: str) -> str:
    """Return the canonical host; empty if it cannot be a host of the public Internet."""
    if not authority.isascii():
        authority = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", authority).lower())
    host = authority.lower().rpartition("@")[2].partition(":")[0].removesuffix(".")
    valid = len(host) <= _MAX_HOST and host.isprintable() and _HOST.fullmatch(host) and "." in host
    labels = host.split(".")
    return host if valid and all(labels) and (not labels[-1].isdigit() or _IPV4.fullmatch(host)) else ""


def _known_site(host: str) -> Traffic | None:
    """Return what the table says about a canonical host; None if it is not there."""
    labels = host.split(".")
    stem = labels[: -_suffix_size(labels)]
    for first in range(max(0, len(labels) - _MOST_LABELS), len(labels)):
        key = ".".join(labels[first:])
        if key not in _HOSTS:
            key = ".".join(stem[first:]) + ".*"
        if came := _HOSTS.get(key):
            return _page(came, labels[:first], key in _PORTALS)
    return None


def _unlisted(host: str) -> Traffic:
    """Return the source and medium of a host that is not in the table.

    The first label decides the medium, if it is one of the usual ones. The source is the domain that looks registered.
    """
    if _IPV4.fullmatch(host):
        return Traffic(host, _REFERRAL)
    labels = host.split(".")
    own = len(labels) - _suffix_size(labels) - 1
    custom = _CUSTOM.fullmatch(labels[0]) if own else None
    medium = custom.lastgroup if custom else None
    return Traffic(canonical(".".join(labels[own:])), medium or _REFERRAL)


def _page(came: Traffic, labels: list[str], portal: bool) -> Traffic:
    """Return the source and medium of a host below a known site.

    The mail and the advertisements of a search engine are not searches, and neither are the other pages of a portal.
    """
    if came.medium != "search" or not labels:
        return came
    customs = {match.lastgroup for label in labels if (match := _CUSTOM.fullmatch(label))}
    for medium in ("email", "paid"):
        if medium in customs:
            return Traffic(came.source, medium)
    if portal and not all(_FRONT.fullmatch(label) for label in labels):
        return Traffic(came.source, _REFERRAL)
    return came


def _suffix_size(labels: list[str]) -> int:
    """Return how many labels at the end look like a public suffix."""
    return 2 if len(labels) > 2 and len(labels[-1]) == 2 and sites.SECOND_LEVEL.fullmatch(labels[-2]) else 1


def _read_sites() -> tuple[dict[str, Traffic], dict[str, Traffic]]:
    """Return the known sites by host, and by the names that campaigns use."""
    hosts: dict[str, Traffic] = {}
    names = {"direct": _DIRECT, "(direct)": _DIRECT}
    for medium, words in sites.SITES:
        for word in words.split():
            key, _, source = word.partition("=")
            labels = key.split(".")
            if not source:
                source = labels[-_suffix_size(labels) - 1] if "." in key else key
            came = Traffic(source, medium)
            names.setdefault(source, came)
            (hosts if "." in key else names).setdefault(key, came)
    return hosts, names


_HOSTS, _NAMES = _read_sites()
_PORTALS = frozenset(word.partition("=")[0] for word in sites.PORTALS.split())
_MEDIA = {word: medium for medium, words in sites.MEDIA for word in words.split()}
