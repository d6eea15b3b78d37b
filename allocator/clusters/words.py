"""Words for the values of dimensions, in names of clusters. Texts of callers are cut short and made harmless."""

from dataclasses import dataclass

from allocator.segments import spelled

LAST = "last"  # the facet that a name ends with
ORDER = ("manner", "week", "time", "location", "own", "origin", "step", LAST)  # of facets in a name
KINDS = {"web": "Browsers", "email": "Email Readers", "funnel": "Shoppers", "push": "App Users"}
_MOST_CHARACTERS, _MOST_WORDS = 16, 2  # of a text of callers


@dataclass(frozen=True, slots=True)
class Trait:
    """A property of users, in one or two words. A name has at most one trait of each facet.

    weight: how much a name gains by the trait.
    """

    facet: str
    word: str
    weight: float


_TIMES = {  # first and last hour; they overlap, and a name has the one that fits best
    "Late-night": (22, 28),
    "Early-morning": (4, 7),
    "Morning": (6, 11),
    "Business-hours": (9, 17),
    "Lunchtime": (11, 13),
    "Afternoon": (12, 17),
    "Evening": (17, 22),
}
_TRAITS_OF_HOUR = {
    str(hour): tuple(
        Trait("time", word, 0.95 - (last - first) / 100)  # the shorter time, if both fit
        for word, (first, last) in _TIMES.items()
        if first <= hour <= last or hour + 24 <= last
    )
    for hour in range(24)
}
_MANNERS = {
    "returning": {"true": "Returning", "false": "New"},
    "engagement_score": {"high": "Loyal", "medium": "Occasional", "low": "Dormant"},
    "previous_opens": {"20+": "Frequent", "0": "Silent"},
    "previous_clicks": {"20+": "Keen", "0": "Passive"},
    "days_since_last_open": {"0-6": "Active", "90+": "Lapsed"},
    "opt_in_days": {"0-6": "Newly Joined", "90+": "Long-time"},
    "drop_risk": {"high": "Hesitant", "low": "Decided"},
    "minutes_in_funnel": {"0-1": "Quick", "15+": "Lingering"},
    "cart_value": {"0": "Empty-cart", "200+": "Big-cart"},
}
_MANNER_WEIGHTS = {"returning": 0.9, "engagement_score": 1.0, "drop_risk": 0.9, "cart_value": 0.9}
_FACETS = {  # facet and weight
    "source": ("origin", 1.0),
    "medium": ("origin", 0.7),
    "campaign": ("origin", 0.5),
    "list": ("origin", 0.5),
    "provider": ("origin", 0.5),
    "device": (LAST, 1.2),
    "os": (LAST, 0.4),
    "browser": (LAST, 0.3),
    "stage": ("step", 0.6),
    "funnel": ("step", 0.5),
    "country": ("location", 0.4),
    "language": ("location", 0.3),
    "region": ("location", 0.3),
    "day_of_week": ("week", 0.5),
}
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def traits(dimension: str, value: str) -> tuple[Trait, ...]:
    """Return the traits of users with this value of a built-in dimension."""
    if dimension == "channel":
        return (Trait(LAST, KINDS[value], 1.0),) if value in KINDS else ()
    if dimension == "hour":
        return _TRAITS_OF_HOUR.get(value, ())
    if dimension == "is_weekend":
        return (Trait("week", "Weekend" if value == "true" else "Weekday", 0.9),)
    if dimension in _MANNERS:
        word = _MANNERS[dimension].get(value, "")
        return (Trait("manner", word, _MANNER_WEIGHTS.get(dimension, 0.6)),) if word else ()
    if dimension not in _FACETS or value in ("unknown", "push"):  # the noun "App Users" says that already
        return ()
    facet, weight = _FACETS[dimension]
    word = harmless(value).upper() if dimension in ("country", "language") else harmless(spelled(value))
    return (Trait(facet, word, weight),) if word else ()


def attribute_trait(name: str, value: str) -> Trait | None:
    """Return the trait of users with this value of a custom attribute; None if no word is left of it."""
    title, word = harmless(spelled(name)), harmless(spelled(value))
    if value in _NO:
        return Trait(f"own {name}", f"No {title}", 0.4)
    if value in _YES:
        word = title
    elif word and not any(character.isalpha() for character in word):
        word = f"{title} {word}"
    return Trait(f"own {name}", word, 0.7) if word else None


def scale_trait(name: str, high: bool) -> Trait:
    """Return the trait of users above the mean of a number, or of those not above it."""
    return Trait(f"own {name}", f"{'High' if high else 'Low'} {harmless(spelled(name))}", 0.7)


def harmless(text: str) -> str:
    """Return the letters, digits, hyphens and single spaces of a text: at most 16 characters and two words."""
    kept = "".join(c if c.isalnum() or c == "-" else " " for c in text)
    words = [word for word in kept.split() if any(c.isalnum() for c in word)][:_MOST_WORDS]
    while len(words) > 1 and len(" ".join(words)) > _MOST_CHARACTERS:
        words.pop()
    return " ".join(words)[:_MOST_CHARACTERS]
