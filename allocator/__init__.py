"""The decision core: it decides which variant a user sees, and learns from the conversions.

It consists of pure functions and frozen values. It must not know of gRPC, SQL, Redis, files or the time of day.
"""
