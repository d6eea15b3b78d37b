"""The control plane: experiments and their results."""
