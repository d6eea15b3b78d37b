"""Figures of the decision core: kernels, posteriors, estimates and replays."""
