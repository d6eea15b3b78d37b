"""Segmentation that comes and goes by itself: what is found of an experiment, proposed, done, and measured."""
