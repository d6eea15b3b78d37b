"""Exit codes between the supervisor and its children."""

UNUSABLE = 3  # starting again will not help
