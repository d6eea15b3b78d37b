"""The worker: it stores events in PostgreSQL, publishes posteriors, and restores what Redis has lost."""
