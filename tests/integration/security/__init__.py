"""What attackers and careless callers send."""
