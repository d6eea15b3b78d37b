"""Which segments keep a posterior of their own if there are more segments than an experiment may have."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

_FACTOR, _MARGIN = 1.5, 10  # a newcomer replaces a segment with n users if it has at least 1.5·n + 10


class AdmissionPlan(NamedTuple):
    """The keys of the segments to retire, and of those to admit instead."""

    retire: list[str]
    admit: list[str]


def plan_admission(active: Collection[str], users: Mapping[str, int], most: int) -> AdmissionPlan:
    """Plan which segments to retire and which to admit, so that the largest ones are active.

    A newcomer replaces an active segment only if it has clearly more users. Otherwise two segments of about the same
    size would replace each other again and again.

    Args:
        active: keys of the segments that are active now.
        users: recent users by segment key, at least of the largest segments.
        most: how many segments may be active.
    """
    by_size = sorted(active, key=lambda key: (users.get(key, 0), key))  # the smallest first
    surplus = max(len(by_size) - most, 0)
    retire, staying = by_size[:surplus], by_size[surplus:]
    admit: list[str] = []
    newcomers = sorted(users.keys() - set(active), key=lambda key: (-users[key], key))
    free = most - len(staying)
    for rank, key in enumerate(newcomers[:most]):
        if users[key] < _MARGIN:
            break
        if rank < free:
            admit.append(key)
            continue
        if rank - free >= len(staying):
            break
        displaced = staying[rank - free]
        if users[key] < _FACTOR * users.get(displaced, 0) + _MARGIN:
            break
        retire.append(displaced)
        admit.append(key)
    return AdmissionPlan(retire, admit)
