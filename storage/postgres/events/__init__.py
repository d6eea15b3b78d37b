"""The log: events become assignments and conversions, and are read back."""
