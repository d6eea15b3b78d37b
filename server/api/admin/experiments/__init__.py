"""ExperimentService."""
