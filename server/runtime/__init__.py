"""Processes: what one server process is made of, and the supervisor that starts engines, servers and worker."""
