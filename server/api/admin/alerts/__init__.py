"""AlertService."""
