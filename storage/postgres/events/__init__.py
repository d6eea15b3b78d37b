"""The log: events are stored as assignments and conversions, and read back."""
