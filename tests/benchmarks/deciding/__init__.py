"""Figures of the decision core: kernels, posteriors, estimates, replays."""
