"""Which segments keep a posterior of their own, where there are more than an experiment may have."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

_FACTOR, _MARGIN = 1.5, 10  # by how much a newcomer must outnumber a segment to take its place


class Revision(NamedTuple):
    """Segment keys to retire, and to admit in their place."""

    retire: list[str]
    admit: list[str]


def revise(active: Collection[str], users: Mapping[str, int], most: int) -> Revision:
    """Let heavy hitters in, with hysteresis: a place changes hands only if the newcomer has clearly more users.

    Args:
        active: keys of the segments that are answered now.
        users: recent users by the key that they would have, of the largest at least.
        most: how many segments there may be.
    """
    weakest = sorted(active, key=lambda key: (users.get(key, 0), key))
    surplus = max(len(weakest) - most, 0)
    retire, staying = weakest[:surplus], weakest[surplus:]
    admit: list[str] = []
    newcomers = sorted(users.keys() - set(active), key=lambda key: (-users[key], key))
    free = most - len(staying)
    for place, key in enumerate(newcomers[:most]):
        if users[key] < _MARGIN:
            break
        if place < free:
            admit.append(key)
            continue
        if place - free >= len(staying):
            break
        displaced = staying[place - free]
        if users[key] < _FACTOR * users.get(displaced, 0) + _MARGIN:
            break
        retire.append(displaced)
        admit.append(key)
    return Revision(retire, admit)
