"""A load generator whose calls are cheap, so that it takes a small part of the machine that it measures."""
