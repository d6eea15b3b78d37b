"""The only way in which configuration and posteriors reach Redis."""
