"""The log of a finished experiment: which columns it has, its users, and a simulated one to try a replay with."""
