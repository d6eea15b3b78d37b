"""AllocationService: messages, serialised answers and batches around the use cases of `server.allocation`."""
