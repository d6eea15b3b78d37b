"""Replays a logged experiment through a running server.

`log` reads the log, the modules of this folder drive the run, and `report` shows what came of it.
"""
