"""Postgres, Redis, the engines that are brought along, and encryption. Returns the allocator's types; knows no gRPC."""
