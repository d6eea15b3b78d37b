"""Figures of contexts, segments and clusters."""
