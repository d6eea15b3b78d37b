"""The supervisor of an installation: it starts engines, servers and the worker, keeps them alive, and stops them."""
