"""The commands of `samplit`, one module a group."""
