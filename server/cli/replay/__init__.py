"""Runs a logged experiment through a running server, to see what adaptive allocation would have done with its users."""
