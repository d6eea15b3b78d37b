"""The services of the control plane, a folder for each."""
