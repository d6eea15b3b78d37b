"""The defaults and bounds of a segmentation's configuration, each defined once.

The API refuses what is outside of them. The CHECK constraints of the migrations repeat them, and a test compares both.
"""

DEFAULT_MIN_SAMPLES = 100  # trials that a segment needs for a posterior of its own
MAX_MIN_SAMPLES = 1_000_000

MAX_DIMENSIONS = 6  # that an experiment may be segmented by

DEFAULT_MAX_SEGMENTS = 200  # that have a number of their own; all others share one
MIN_SEGMENTS, MAX_SEGMENTS = 1, 1_000

DEFAULT_MAX_CLUSTERS = 8
MIN_CLUSTERS, MAX_CLUSTERS = 2, 20
MIN_ASSIGNMENTS = 1_000  # that clusters are trained from

DEFAULT_AUTO_ACTIVATION_THRESHOLD = 1_000  # visitors a day
MIN_AUTO_ACTIVATION_THRESHOLD, MAX_AUTO_ACTIVATION_THRESHOLD = 1, 1_000_000_000
