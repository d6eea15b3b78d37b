"""Clients of other languages and libraries, against server/transport and against Samplit: `make test-clients`."""
