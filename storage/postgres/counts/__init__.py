"""Counts that are derived from the log of assignments, and the queries that read them."""
