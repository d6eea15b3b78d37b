"""A light load generator: so cheap a call that it takes a small part of the machine that it measures."""
