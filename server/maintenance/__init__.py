"""What operators do to an installation: API keys, keysets, backups, rebuilding counts and Redis, deleting everything.

Each module is one use case. It is given connections, clients and the time, and returns values, so that the command
line, HTTP and later roles can use it alike. Nothing here knows how people ask for it: no typer, rich, gRPC or protobuf.
"""
