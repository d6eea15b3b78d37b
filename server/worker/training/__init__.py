"""Training of cluster models, in a process of its own."""
