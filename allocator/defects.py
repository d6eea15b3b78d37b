"""Defects: numbers or configuration of our own that cannot be right.

No caller can cause one by what it sends: the cause is a fault of the program, or damaged data. These are plain
exceptions and no SamplitErrors. The server therefore logs a defect with its traceback, answers INTERNAL, and keeps the
text to itself. What callers may be told is in `allocator.errors`.
"""


class DefectError(ValueError):
    """The base of all defects."""


class InvalidTableError(DefectError):
    """Posterior tables, shares or a floor are such that nothing can be decided by them."""


class InvalidCountsError(DefectError):
    """Counts of users are such that no evidence can be computed from them."""


class InvalidLogError(DefectError):
    """The sums over a log of assignments are such that nothing can be estimated from them."""


class InvalidConfigurationError(DefectError):
    """The stored configuration of an experiment is not one that the server would accept."""
