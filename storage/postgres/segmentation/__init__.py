"""Segmentations, cluster models and their trainings, and recommendations."""
