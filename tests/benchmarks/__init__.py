"""What the server is measured against, and the measuring."""
