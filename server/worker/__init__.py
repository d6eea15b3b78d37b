"""The worker: drains events into Postgres, publishes posteriors, and mends what is missing in Redis."""
