"""The decision core: who sees which variant, and what is learned from it.

Pure functions and frozen values. It must not know of gRPC, SQL, Redis, files or the time of day.
"""
