"""The commands that are clients of a running server: one module for each group of commands."""
