"""The processes of an installation: what a server and a worker are composed of, and the supervisor that runs them."""
