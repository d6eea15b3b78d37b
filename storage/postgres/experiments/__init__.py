"""Experiments, the rules that decisions follow, and their posteriors."""
